use std::collections::HashSet;

use toolgate_events::audit::AuditRow;
use toolgate_security::TenantTx;

use super::bigint;
use crate::Error;

/// The stream sequences of those rows that are set aside, so that their calls and the sums do not tell of them. An outcome that only its
/// tool's read model refused is its call's last event all the same.
pub(crate) async fn aside(tx: &mut TenantTx, rows: &[AuditRow]) -> Result<HashSet<u64>, Error> {
    let aside: Vec<i64> = sqlx::query_scalar(
        "select p.stream_sequence from parked_event p
         where p.stream_sequence = any($1) and not exists (
             select from tool_call c where c.call_id = p.aggregate_id and c.position = p.position)",
    )
    .bind(rows.iter().map(|row| bigint(row.stream_sequence)).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await?;
    Ok(aside.into_iter().map(i64::unsigned_abs).collect())
}
