use chrono::NaiveDate;
use sqlx::{FromRow, Postgres, QueryBuilder, Row, postgres::PgRow};
use toolgate_events::{Usage, latency::Latency};
use toolgate_security::TenantTx;

use super::{bigint, unsigned};
use crate::Error;

/// What was used of one tool on one day.
#[derive(Clone, Debug)]
pub(crate) struct UsageRow {
    pub day: NaiveDate,
    /// Empty for refusals that name no tool.
    pub tool: String,
    /// Of the first and the last event that added to it.
    pub first_position: u64,
    pub position: u64,
    pub usage: Usage,
}

impl FromRow<'_, PgRow> for UsageRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let latency: Vec<i64> = row.try_get("latency")?;
        Ok(Self {
            day: row.try_get("day")?,
            tool: row.try_get("tool")?,
            first_position: unsigned(row, "first_position")?,
            position: unsigned(row, "position")?,
            usage: Usage {
                requested: unsigned(row, "requested")?,
                succeeded: unsigned(row, "succeeded")?,
                failed: unsigned(row, "failed")?,
                cancelled: unsigned(row, "cancelled")?,
                cached: unsigned(row, "cached")?,
                attempts: unsigned(row, "attempts")?,
                retries: unsigned(row, "retries")?,
                denied: unsigned(row, "denied")?,
                rate_limited: unsigned(row, "rate_limited")?,
                bytes_in: unsigned(row, "bytes_in")?,
                bytes_out: unsigned(row, "bytes_out")?,
                duration_ms: unsigned(row, "duration_ms")?,
                latency: Latency::from_counts(latency.into_iter().map(i64::unsigned_abs).collect()),
            },
        })
    }
}

/// What was used from one day to another, both included, by day and tool.
pub(crate) async fn days(tx: &mut TenantTx, from: NaiveDate, to: NaiveDate, tool: Option<&str>) -> Result<Vec<UsageRow>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select day, tool, first_position, position, requested, succeeded, failed, cancelled, cached, attempts, retries, denied,
             rate_limited, bytes_in, bytes_out, duration_ms, latency
         from usage_day where day >= ",
    );
    query.push_bind(from).push(" and day <= ").push_bind(to);
    if let Some(tool) = tool {
        query.push(" and tool = ").push_bind(tool.to_owned());
    }
    query.push(r#" order by day, tool collate "C""#);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// The newest day on which anything was used, as far as events up to a position say.
pub(crate) async fn newest_day(tx: &mut TenantTx, up_to: u64) -> Result<Option<NaiveDate>, Error> {
    let day = sqlx::query_scalar("select max(day) from usage_day where first_position <= $1")
        .bind(bigint(up_to))
        .fetch_one(&mut **tx)
        .await?;
    Ok(day)
}
