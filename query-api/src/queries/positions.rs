use chrono::{DateTime, Utc};
use toolgate_events::CallId;
use toolgate_security::TenantTx;
use toolgate_store::PartitionState;

use super::bigint;
use crate::Error;

/// The tenant's newest projected position, 0 before its first.
pub(crate) async fn newest(tx: &mut TenantTx) -> Result<u64, Error> {
    let newest: Option<i64> =
        sqlx::query_scalar("select position from audit_event order by position desc limit 1").fetch_optional(&mut **tx).await?;
    Ok(newest.map_or(0, i64::unsigned_abs))
}

/// The last position before the first event that occurred later than `time`; `None` when none did.
///
/// Appenders have clocks of their own, so times may be out of order by as much as these differ. Cut there, it is a beginning of the
/// history all the same, and nothing in it is later.
pub(crate) async fn before_later_than(tx: &mut TenantTx, time: DateTime<Utc>) -> Result<Option<u64>, Error> {
    let later: Option<i64> = sqlx::query_scalar("select min(position) from audit_event where occurred_at > $1")
        .bind(time)
        .fetch_one(&mut **tx)
        .await?;
    Ok(later.map(|later| later.unsigned_abs() - 1))
}

/// Whether a call is projected, or the whole partition as far as `state` says: then it was set aside and never will be.
pub(crate) async fn is_projected(tx: &mut TenantTx, call: CallId, state: &PartitionState) -> Result<bool, Error> {
    let projected = sqlx::query_scalar(
        "select exists (select from audit_event where aggregate_id = $1)
             or exists (select from projection_checkpoint where partition = $2 and stream_sequence >= $3)",
    )
    .bind(call.0)
    .bind(i32::from(state.partition.0))
    .bind(bigint(state.last_sequence))
    .fetch_one(&mut **tx)
    .await?;
    Ok(projected)
}
