//! Rows of the audit trail as the table has them, read here and nowhere else, and what they are made into again.

use serde_json::Value;
use sqlx::{FromRow, PgExecutor, Row, postgres::PgRow, types::Json};
use toolgate_events::{CallId, Envelope, Form, TenantId, TraceContext, audit::AuditRow, canonical};
use uuid::Uuid;

/// What [`TrailRow`] and [`SpelledRow`] are made from.
pub const COLUMNS: &str = "position, stream_sequence, event_id, event_type, event_version, aggregate_type, aggregate_id, \
     aggregate_sequence, actor, occurred_at, correlation_id, causation_id, data, prev_hash, hash";

/// A row of the audit trail.
pub struct TrailRow(pub AuditRow);

/// The same with the text of its data, which is what was hashed, and what a change of spelling shows in. The row's own data is left
/// empty: a text that somebody made unreadable is still one that has another hash.
#[derive(Clone, Debug)]
pub struct SpelledRow {
    pub row: AuditRow,
    pub data: String,
}

/// What was recorded, made again of its row.
#[derive(Debug)]
pub enum Recorded {
    Event(Box<Envelope>),
    /// What was no envelope is kept as its bytes.
    Bytes(Vec<u8>),
}

/// Every tenant that has rows in a table like `audit_event`, by one step of the index for each tenant and not one for each row.
///
/// # Errors
/// Whatever the database says.
pub async fn tenants(database: impl PgExecutor<'_>, table: &'static str) -> Result<Vec<TenantId>, sqlx::Error> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(&format!(
        "with recursive tenant (id) as (
             (select tenant_id from {table} order by tenant_id limit 1)
             union all
             select (select a.tenant_id from {table} a where a.tenant_id > tenant.id order by a.tenant_id limit 1)
             from tenant where tenant.id is not null
         )
         select id from tenant where id is not null"
    ))
    .fetch_all(database)
    .await?;
    Ok(tenants.into_iter().map(TenantId).collect())
}

/// The event that a row was made of; `None` when it has bytes that are none.
pub fn recorded(tenant_id: TenantId, row: AuditRow, traceparent: Option<String>) -> Option<Recorded> {
    if is_unreadable(&row) {
        return row.data["bytes"].as_str().and_then(canonical::unhex).map(Recorded::Bytes);
    }
    Some(Recorded::Event(Box::new(Envelope {
        event_id: row.event_id,
        event_type: row.event_type,
        event_version: row.event_version,
        tenant_id,
        aggregate_type: row.aggregate_type,
        aggregate_id: CallId(row.aggregate_id),
        aggregate_sequence: row.aggregate_sequence,
        correlation_id: row.correlation_id,
        causation_id: row.causation_id,
        actor: row.actor,
        occurred_at: row.occurred_at,
        trace_context: traceparent.map(|traceparent| TraceContext { traceparent }),
        data: row.data,
        form: Form::Recorded,
    })))
}

/// Whether nobody could read the event: then its row is a stand-in, with an id that follows from its place.
pub fn is_unreadable(row: &AuditRow) -> bool {
    row.event_type == "unreadable" && row.event_version == 0
}

impl FromRow<'_, PgRow> for SpelledRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let data = row.try_get_raw("data")?.as_str().map_err(sqlx::Error::Decode)?.to_owned();
        Ok(Self { row: fields(row, Value::Null)?, data })
    }
}

impl FromRow<'_, PgRow> for TrailRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let Json(data) = row.try_get("data")?;
        Ok(Self(fields(row, data)?))
    }
}

fn fields(row: &PgRow, data: Value) -> Result<AuditRow, sqlx::Error> {
    Ok(AuditRow {
        position: unsigned(row, "position")?,
        stream_sequence: unsigned(row, "stream_sequence")?,
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("event_type")?,
        // No two numbers of the table look alike: one that somebody made negative shows.
        event_version: row.try_get("event_version").map(i32::cast_unsigned)?,
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        aggregate_sequence: row.try_get("aggregate_sequence").map(i64::cast_unsigned)?,
        actor: row.try_get("actor")?,
        occurred_at: row.try_get("occurred_at")?,
        correlation_id: row.try_get("correlation_id")?,
        causation_id: row.try_get("causation_id")?,
        data,
        prev_hash: row.try_get("prev_hash")?,
        hash: row.try_get("hash")?,
    })
}

/// A non-negative `bigint`.
///
/// # Errors
/// When it is negative, or none.
pub fn unsigned(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() })
}
