use std::collections::HashMap;

use sqlx::PgPool;
use toolgate_events::TenantId;
use toolgate_store::Received;

use crate::batch::{self, Head, Numbered};

/// Adds the chain heads of those tenants of `messages` that are not among `heads`.
///
/// # Errors
/// Whatever the database says.
pub async fn load(
    database: &PgPool,
    partitions: u16,
    heads: &mut HashMap<TenantId, Head>,
    messages: &[Received],
) -> Result<(), sqlx::Error> {
    let mut unknown: Vec<_> = messages
        .iter()
        .filter_map(|message| batch::tenant_of(message, partitions))
        .filter(|tenant| !heads.contains_key(tenant))
        .map(|tenant| tenant.0)
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    unknown.sort_unstable();
    unknown.dedup();
    let rows: Vec<(uuid::Uuid, i64, String, i64, i64, bool)> = sqlx::query_as(
        "select t.tenant_id, head.position, head.hash, head.stream_sequence,
             (select count(*) from tool_call c where c.tenant_id = t.tenant_id and c.finished_at is null),
             not exists (select from parked_event p where p.tenant_id = t.tenant_id)
         from unnest($1::uuid[]) as t (tenant_id)
         cross join lateral (
             select position, hash, stream_sequence from audit_event a where a.tenant_id = t.tenant_id order by position desc limit 1
         ) head",
    )
    .bind(&unknown)
    .fetch_all(database)
    .await?;
    // Whose first event this is has nothing parked either.
    heads.extend(unknown.into_iter().map(TenantId).map(|tenant| {
        let genesis = Head::genesis(tenant);
        (tenant, Head { nothing_parked: true, ..genesis })
    }));
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    heads.extend(rows.into_iter().map(|(tenant, position, hash, stream_sequence, open_calls, nothing_parked)| {
        let (position, stream_sequence, open_calls) = (unsigned(position), unsigned(stream_sequence), unsigned(open_calls));
        (TenantId(tenant), Head { position, hash, stream_sequence, open_calls, nothing_parked })
    }));
    Ok(())
}

/// Notes that something of a batch was set aside. Whose it was does not matter much: one question a batch is what it costs.
pub fn note_parked(heads: &mut HashMap<TenantId, Head>, events: &[Numbered], parked: u64) {
    if parked > 0 {
        for event in events {
            heads.entry(event.tenant_id).and_modify(|head| head.nothing_parked = false);
        }
    }
}
