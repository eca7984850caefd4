//! Where chains stand, as the table has it.

use serde_json::Value;
use sqlx::{PgPool, Row, postgres::PgRow};
use toolgate_events::{
    Partition, TenantId,
    audit::{AuditRow, Head, genesis_hash},
};
use uuid::Uuid;

use super::Error;

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
    #[error("row {0} was signed with another hash: the trail was rewritten")]
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

/// The end of a tenant's chain, where it follows from the row before and from what was signed before.
pub async fn head(database: &PgPool, tenant: TenantId, partitions: u16, before: Option<&Signed>) -> Result<Head, Error> {
    let rows: Vec<(AuditRow, String)> = sqlx::query(
        "select position, stream_sequence, event_id, event_type, event_version, aggregate_type, aggregate_id, aggregate_sequence,
             actor, occurred_at, correlation_id, causation_id, data::text as data, prev_hash, hash
         from audit_event where tenant_id = $1 order by position desc limit 2",
    )
    .bind(tenant.0)
    .try_map(|row: PgRow| read(&row))
    .fetch_all(database)
    .await?;
    let Some((newest, _)) = rows.first() else {
        return Err(before.map_or(ChainBroken::Empty, |before| ChainBroken::Missing(before.position)).into());
    };
    if let Some((changed, _)) = rows.iter().find(|(row, data)| row.hash != row.hash_over(data)) {
        return Err(ChainBroken::Changed(changed.position).into());
    }
    let (position, hash) = match rows.get(1) {
        Some((row, _)) => (row.position, row.hash.clone()),
        None => (0, genesis_hash(tenant)),
    };
    if newest.position != position + 1 || newest.prev_hash != hash {
        return Err(ChainBroken::Unlinked(newest.position).into());
    }
    if let Some(Signed { position, hash }) = before {
        let found: Option<String> = sqlx::query_scalar("select hash from audit_event where tenant_id = $1 and position = $2")
            .bind(tenant.0)
            .bind(i64::try_from(*position).unwrap_or(i64::MAX))
            .fetch_optional(database)
            .await?;
        match found {
            None => return Err(ChainBroken::Missing(*position).into()),
            Some(found) if found != *hash => return Err(ChainBroken::Rewritten(*position).into()),
            Some(_) => {}
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

/// A row and the text of its data, which is what was hashed.
fn read(row: &PgRow) -> Result<(AuditRow, String), sqlx::Error> {
    let unsigned = |column| row.try_get(column).map(i64::cast_unsigned);
    let event_version: i32 = row.try_get("event_version")?;
    let read = AuditRow {
        position: unsigned("position")?,
        stream_sequence: unsigned("stream_sequence")?,
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("event_type")?,
        event_version: event_version.cast_unsigned(),
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        aggregate_sequence: unsigned("aggregate_sequence")?,
        actor: row.try_get("actor")?,
        occurred_at: row.try_get("occurred_at")?,
        correlation_id: row.try_get("correlation_id")?,
        causation_id: row.try_get("causation_id")?,
        data: Value::Null,
        prev_hash: row.try_get("prev_hash")?,
        hash: row.try_get("hash")?,
    };
    Ok((read, row.try_get("data")?))
}
