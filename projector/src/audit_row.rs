use sqlx::{FromRow, Row, postgres::PgRow, types::Json};
use toolgate_events::audit::AuditRow;

/// What [`TrailRow`] is made from.
pub const COLUMNS: &str = "position, stream_sequence, event_id, event_type, event_version, aggregate_type, aggregate_id, \
     aggregate_sequence, actor, occurred_at, correlation_id, causation_id, data, prev_hash, hash";

/// A row of the audit trail as the table has it.
pub struct TrailRow(pub AuditRow);

impl FromRow<'_, PgRow> for TrailRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let event_version: i32 = row.try_get("event_version")?;
        let Json(data) = row.try_get("data")?;
        Ok(Self(AuditRow {
            position: unsigned(row, "position")?,
            stream_sequence: unsigned(row, "stream_sequence")?,
            event_id: row.try_get("event_id")?,
            event_type: row.try_get("event_type")?,
            event_version: event_version.unsigned_abs(),
            aggregate_type: row.try_get("aggregate_type")?,
            aggregate_id: row.try_get("aggregate_id")?,
            aggregate_sequence: unsigned(row, "aggregate_sequence")?,
            actor: row.try_get("actor")?,
            occurred_at: row.try_get("occurred_at")?,
            correlation_id: row.try_get("correlation_id")?,
            causation_id: row.try_get("causation_id")?,
            data,
            prev_hash: row.try_get("prev_hash")?,
            hash: row.try_get("hash")?,
        }))
    }
}

/// A non-negative `bigint`.
pub fn unsigned(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() })
}
