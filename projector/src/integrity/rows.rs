//! The audit rows that the checks compare with, read here and nowhere else.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgPool, QueryBuilder, Row, postgres::PgRow};
use toolgate_events::{Partition, TenantId, audit::AuditRow};
use uuid::Uuid;

use super::compare::{Link, Stored};
use crate::projections::signed;

const COLUMNS: &str = "a.tenant_id, a.position, a.stream_sequence, a.event_id, a.event_type, a.event_version, a.aggregate_type,
     a.aggregate_id, a.aggregate_sequence, a.actor, a.occurred_at, a.correlation_id, a.causation_id, a.data::text as data,
     a.prev_hash, a.hash";

/// Rows of several tenants, each tenant's ascending.
pub type Rows = HashMap<TenantId, Vec<Stored>>;

/// The rows that follow a position, as many as asked for: tenant, position, count.
pub async fn after(database: &PgPool, wanted: &[(TenantId, u64, usize)]) -> Result<Rows, sqlx::Error> {
    let mut query = QueryBuilder::new(format!(
        "select {COLUMNS} from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (tenant_id, position, count)
         cross join lateral (
             select * from audit_event e where e.tenant_id = w.tenant_id and e.position > w.position
             order by e.position limit w.count
         ) a"
    ));
    let query = query
        .build_query_as::<Found>()
        .bind(wanted.iter().map(|(tenant, ..)| tenant.0).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, position, _)| signed(*position)).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(.., count)| signed(*count as u64)).collect::<Vec<_>>());
    Ok(by_tenant(query.fetch_all(database).await?))
}

/// The newest rows that were made of events up to a place of the log, as many as asked for: tenant, count.
pub async fn newest(database: &PgPool, wanted: &[(TenantId, usize)], upto: u64) -> Result<Rows, sqlx::Error> {
    let mut query = QueryBuilder::new(format!(
        "select {COLUMNS} from unnest($1::uuid[], $2::bigint[]) as w (tenant_id, count)
         cross join lateral (
             select * from audit_event e where e.tenant_id = w.tenant_id and e.stream_sequence <= $3
             order by e.position desc limit w.count
         ) a"
    ));
    let query = query
        .build_query_as::<Found>()
        .bind(wanted.iter().map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, count)| signed(*count as u64)).collect::<Vec<_>>())
        .bind(signed(upto));
    Ok(by_tenant(query.fetch_all(database).await?))
}

/// The rows that say that they are of one event, whoever's: tenant and position. Reads the whole table, and is asked of a place that was
/// found wrong.
pub async fn at(database: &PgPool, stream_sequence: u64) -> Result<Vec<(TenantId, u64)>, sqlx::Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as("select tenant_id, position from audit_event where stream_sequence = $1")
        .bind(signed(stream_sequence))
        .fetch_all(database)
        .await?;
    Ok(rows.into_iter().map(|(tenant, position)| (TenantId(tenant), position.unsigned_abs())).collect())
}

/// The places in the log that rows beyond their tenant's link say they are of, as position and stream sequence: the lowest place and
/// the highest.
pub async fn beyond(database: &PgPool, links: &HashMap<TenantId, Link>) -> Result<Option<[(u64, u64); 2]>, sqlx::Error> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "with beyond as (
             select a.position, a.stream_sequence from unnest($1::uuid[], $2::bigint[]) as w (tenant_id, position)
             join audit_event a on a.tenant_id = w.tenant_id and a.position > w.position
         )
         (select * from beyond order by stream_sequence limit 1)
         union all (select * from beyond order by stream_sequence desc limit 1)",
    )
    .bind(links.keys().map(|tenant| tenant.0).collect::<Vec<_>>())
    .bind(links.values().map(|link| signed(link.position)).collect::<Vec<_>>())
    .fetch_all(database)
    .await?;
    let place = |(position, sequence): &(i64, i64)| (position.unsigned_abs(), sequence.unsigned_abs());
    let lowest = rows.iter().map(place).min_by_key(|(_, sequence)| *sequence);
    let highest = rows.iter().map(place).max_by_key(|(_, sequence)| *sequence);
    Ok(lowest.zip(highest).map(|(lowest, highest)| [lowest, highest]))
}

/// What left the table for the archive: the position that each segment of a tenant ends with, and the hash there.
pub type Archived = HashMap<TenantId, BTreeMap<u64, String>>;

/// The segments of tenants. Asked before the rows: what leaves the table in between is missed, and found with another look.
pub async fn archived(database: &PgPool, tenants: impl Iterator<Item = TenantId>) -> Result<Archived, sqlx::Error> {
    let rows: Vec<(Uuid, i64, String)> =
        sqlx::query_as("select tenant_id, last_position, hash from audit_segment where tenant_id = any($1)")
            .bind(tenants.map(|tenant| tenant.0).collect::<Vec<_>>())
            .fetch_all(database)
            .await?;
    let mut archived = Archived::new();
    for (tenant, position, hash) in rows {
        archived.entry(TenantId(tenant)).or_default().insert(position.unsigned_abs(), hash);
    }
    Ok(archived)
}

/// The last position that is in the archive, 0 for none.
pub fn archived_upto(archived: &Archived, tenant: TenantId) -> u64 {
    archived.get(&tenant).and_then(BTreeMap::last_key_value).map_or(0, |(position, _)| *position)
}

/// Every tenant of a partition that has rows. Asks the index from one tenant to the next and reads no row twice.
pub async fn tenants(database: &PgPool, partition: Partition, partitions: u16) -> Result<Vec<TenantId>, sqlx::Error> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "with recursive tenant as (
             (select tenant_id from audit_event order by tenant_id limit 1)
             union all
             select (select a.tenant_id from audit_event a where a.tenant_id > t.tenant_id order by a.tenant_id limit 1)
             from tenant t where t.tenant_id is not null
         )
         select tenant_id from tenant where tenant_id is not null",
    )
    .fetch_all(database)
    .await?;
    Ok(tenants.into_iter().map(TenantId).filter(|tenant| Partition::of(*tenant, partitions) == partition).collect())
}

struct Found(TenantId, Stored);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
        let audit = AuditRow {
            position: number("position")?,
            stream_sequence: number("stream_sequence")?,
            event_id: row.try_get("event_id")?,
            event_type: row.try_get("event_type")?,
            event_version: row.try_get::<i32, _>("event_version")?.unsigned_abs(),
            aggregate_type: row.try_get("aggregate_type")?,
            aggregate_id: row.try_get("aggregate_id")?,
            aggregate_sequence: number("aggregate_sequence")?,
            actor: row.try_get("actor")?,
            occurred_at: row.try_get::<DateTime<Utc>, _>("occurred_at")?,
            correlation_id: row.try_get("correlation_id")?,
            causation_id: row.try_get("causation_id")?,
            data: Value::Null,
            prev_hash: row.try_get("prev_hash")?,
            hash: row.try_get("hash")?,
        };
        Ok(Self(TenantId(row.try_get("tenant_id")?), Stored { row: audit, data: row.try_get("data")? }))
    }
}

fn by_tenant(found: Vec<Found>) -> Rows {
    let mut rows = Rows::new();
    for Found(tenant, stored) in found {
        rows.entry(tenant).or_default().push(stored);
    }
    for stored in rows.values_mut() {
        stored.sort_by_key(|stored| stored.row.position);
    }
    rows
}
