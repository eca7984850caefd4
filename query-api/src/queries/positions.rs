use toolgate_events::CallId;
use toolgate_security::TenantTx;
use toolgate_store::PartitionState;

use super::bigint;
use crate::Error;

/// The first position that can be read: all history is kept within reach.
pub(crate) const OLDEST: u64 = 1;

/// The tenant's newest projected position, 0 before its first.
pub(crate) async fn newest(tx: &mut TenantTx) -> Result<u64, Error> {
    let newest: Option<i64> =
        sqlx::query_scalar("select position from audit_event order by position desc limit 1").fetch_optional(&mut **tx).await?;
    Ok(newest.map_or(0, i64::unsigned_abs))
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
