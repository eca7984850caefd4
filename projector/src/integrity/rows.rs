//! The audit rows that the checks compare with, read here and nowhere else.

use std::collections::HashMap;

use sqlx::{FromRow, PgPool, Row, postgres::PgRow};
use toolgate_events::{Partition, TenantId};
use uuid::Uuid;

use super::{archived::Archived, compare::Link};
use crate::{
    audit_row::{self, COLUMNS, SpelledRow},
    projections::signed,
};

/// Rows of several tenants, each tenant's ascending.
pub type Rows = HashMap<TenantId, Vec<SpelledRow>>;

/// The rows that follow a position, as many as asked for: tenant, position, count.
pub async fn after(database: &PgPool, wanted: &[(TenantId, u64, usize)]) -> Result<Rows, sqlx::Error> {
    let query = format!(
        "select a.* from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (tenant_id, position, count)
         cross join lateral (
             select tenant_id, {COLUMNS} from audit_event e where e.tenant_id = w.tenant_id and e.position > w.position
             order by e.position limit w.count
         ) a"
    );
    let query = sqlx::query_as::<_, Found>(&query)
        .bind(wanted.iter().map(|(tenant, ..)| tenant.0).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, position, _)| signed(*position)).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(.., count)| signed(*count as u64)).collect::<Vec<_>>());
    Ok(by_tenant(query.fetch_all(database).await?))
}

/// The newest rows that were made of events up to a place of the log, as many as asked for: tenant, count.
pub async fn newest(database: &PgPool, wanted: &[(TenantId, usize)], upto: u64) -> Result<Rows, sqlx::Error> {
    let query = format!(
        "select a.* from unnest($1::uuid[], $2::bigint[]) as w (tenant_id, count)
         cross join lateral (
             select tenant_id, {COLUMNS} from audit_event e where e.tenant_id = w.tenant_id and e.stream_sequence <= $3
             order by e.position desc limit w.count
         ) a"
    );
    let query = sqlx::query_as::<_, Found>(&query)
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

/// What of tenants is in the archive, and where their rows in the table begin and end. Asked before the rows: what leaves the table
/// in between is missed, and found with another look.
pub async fn archived(
    database: &PgPool,
    tenants: impl Iterator<Item = TenantId>,
) -> Result<HashMap<TenantId, Archived>, sqlx::Error> {
    // One statement, so that the list and the table are of the same moment.
    type Listed = (Uuid, i64, i64, String, Option<i64>, Option<i64>, Option<i64>);
    let rows: Vec<Listed> = sqlx::query_as(
        "select s.tenant_id, s.first_position, s.last_position, s.hash, oldest.position, oldest.stream_sequence, newest.position
         from audit_segment s
         left join lateral (
             select position, stream_sequence from audit_event e where e.tenant_id = s.tenant_id order by e.position limit 1
         ) oldest on true
         left join lateral (
             select position from audit_event e where e.tenant_id = s.tenant_id order by e.position desc limit 1
         ) newest on true
         where s.tenant_id = any($1)",
    )
    .bind(tenants.map(|tenant| tenant.0).collect::<Vec<_>>())
    .fetch_all(database)
    .await?;
    let mut archived = HashMap::<TenantId, Archived>::new();
    for (tenant, first, last, hash, oldest, oldest_sequence, newest) in rows {
        let of_tenant = archived.entry(TenantId(tenant)).or_default();
        of_tenant.segments.insert(first.unsigned_abs(), (last.unsigned_abs(), hash));
        of_tenant.oldest = oldest.zip(oldest_sequence).map(|(position, place)| (position.unsigned_abs(), place.unsigned_abs()));
        of_tenant.newest = newest.map(i64::unsigned_abs);
    }
    Ok(archived)
}

/// Every tenant of a partition that has rows.
pub async fn tenants(database: &PgPool, partition: Partition, partitions: u16) -> Result<Vec<TenantId>, sqlx::Error> {
    let mut tenants = audit_row::tenants(database, "audit_event").await?;
    tenants.retain(|tenant| Partition::of(*tenant, partitions) == partition);
    Ok(tenants)
}

struct Found(TenantId, SpelledRow);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self(TenantId(row.try_get("tenant_id")?), SpelledRow::from_row(row)?))
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
