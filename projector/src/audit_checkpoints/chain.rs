//! Where chains stand, as the table has it.

use sqlx::PgPool;
use toolgate_events::{
    Partition, TenantId,
    audit::{Head, genesis_hash},
};
use uuid::Uuid;

use super::Error;
use crate::{
    audit_row::{COLUMNS, SpelledRow},
    projections::signed,
};

/// Tenants whose heads are read in one statement.
const PAGE: usize = 1_000;

/// What was signed last for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub position: u64,
    pub hash: String,
}

/// Why a chain's end must not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBroken {
    #[error("the tenant has no rows")]
    Empty,
    #[error("row {0} was changed: its hash is not the one of its content")]
    Changed(u64),
    #[error("row {0} does not follow the row before it")]
    Unlinked(u64),
    #[error("row {0} was signed, and is missing")]
    Missing(u64),
    #[error("row {0} is not the one that was signed: the trail was rewritten")]
    Rewritten(u64),
}

/// The newest position of every tenant: two looks into the index for each, however long their trails are.
pub async fn heads(database: &PgPool) -> Result<Vec<(TenantId, u64)>, sqlx::Error> {
    let mut heads = Vec::new();
    let mut from = Uuid::nil();
    loop {
        let page: Vec<(Uuid, i64)> = sqlx::query_as(
            "with recursive tenant (tenant_id, number) as (
                 (select tenant_id, 1 from audit_event where tenant_id >= $1 order by tenant_id limit 1)
                 union all
                 select (select a.tenant_id from audit_event a where a.tenant_id > t.tenant_id order by a.tenant_id limit 1), number + 1
                 from tenant t where t.tenant_id is not null and number <= $2
             )
             select t.tenant_id, head.position from tenant t
             cross join lateral (
                 select position from audit_event a where a.tenant_id = t.tenant_id order by position desc limit 1
             ) head
             where t.tenant_id is not null order by t.tenant_id",
        )
        .bind(from)
        .bind(i64::try_from(PAGE).unwrap_or(i64::MAX))
        .fetch_all(database)
        .await?;
        heads.extend(page.iter().map(|(tenant, position)| (TenantId(*tenant), position.unsigned_abs())));
        if page.len() <= PAGE {
            return Ok(heads);
        }
        // The last of this page is the first of the next.
        heads.truncate(heads.len() - 1);
        from = page.last().map_or(from, |(tenant, _)| *tenant);
    }
}

/// The end of a tenant's chain, where it follows from the row before and from what was signed before. Either may be archived by now;
/// the newest row never is.
pub async fn head(database: &PgPool, tenant: TenantId, partitions: u16, before: Option<&Signed>) -> Result<Head, Error> {
    let select = format!("select {COLUMNS} from audit_event where tenant_id = $1 order by position desc limit 2");
    let rows: Vec<SpelledRow> = sqlx::query_as(&select).bind(tenant.0).fetch_all(database).await?;
    let Some(SpelledRow { row: newest, .. }) = rows.first() else {
        return Err(before.map_or(ChainBroken::Empty, |before| ChainBroken::Missing(before.position)).into());
    };
    if let Some(changed) = rows.iter().find(|spelled| spelled.row.hash != spelled.row.hash_over(&spelled.data)) {
        return Err(ChainBroken::Changed(changed.row.position).into());
    }
    let previous = match rows.get(1) {
        Some(SpelledRow { row, .. }) => Some((row.position, row.hash.clone())),
        None if newest.position == 1 => Some((0, genesis_hash(tenant))),
        None => archived(database, tenant, newest.position - 1).await?,
    };
    if previous != Some((newest.position.saturating_sub(1), newest.prev_hash.clone())) {
        return Err(ChainBroken::Unlinked(newest.position).into());
    }
    if let Some(Signed { position, hash }) = before {
        let select = format!("select {COLUMNS} from audit_event where tenant_id = $1 and position = $2");
        let found: Option<SpelledRow> =
            sqlx::query_as(&select).bind(tenant.0).bind(signed(*position)).fetch_optional(database).await?;
        match found {
            Some(found) if found.row.hash != *hash || found.row.hash_over(&found.data) != *hash => {
                return Err(ChainBroken::Rewritten(*position).into());
            }
            None if archived(database, tenant, *position).await?.is_none() => return Err(ChainBroken::Missing(*position).into()),
            _ => {}
        }
    }
    Ok(Head {
        tenant_id: tenant,
        position: newest.position,
        hash: newest.hash.clone(),
        partition: Partition::of(tenant, partitions),
        stream_sequence: newest.stream_sequence,
    })
}

/// The end of the segment that a row has left the table for, as position and hash.
async fn archived(database: &PgPool, tenant: TenantId, position: u64) -> Result<Option<(u64, String)>, sqlx::Error> {
    let segment: Option<(i64, String)> = sqlx::query_as(
        "select last_position, hash from audit_segment where tenant_id = $1 and $2 between first_position and last_position",
    )
    .bind(tenant.0)
    .bind(signed(position))
    .fetch_optional(database)
    .await?;
    Ok(segment.map(|(last, hash)| (last.unsigned_abs(), hash)))
}
