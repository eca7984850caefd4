//! Where chains stand, as the table has it and the log confirms.

use sqlx::{PgConnection, PgPool};
use toolgate_events::{
    Partition, TenantId,
    audit::{self, Head, genesis_hash},
};
use toolgate_store::{Archive, ArtifactError, Log, SegmentName, archive};
use uuid::Uuid;

use super::Error;
use crate::{
    PROJECTION,
    audit_row::{self, COLUMNS, SpelledRow},
    integrity::{Link, follow},
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
    #[error("row {0} is of no event that was projected")]
    NotProjected(u64),
    #[error("row {0} is not what the event in the log makes of the row before it")]
    NotInLog(u64),
    #[error("the partition is halted: its log and its trail do not agree")]
    Halted,
}

/// The newest position of every tenant: two looks into the index for each, however long their trails are.
pub async fn heads(database: &PgPool) -> Result<Vec<(TenantId, u64)>, sqlx::Error> {
    let mut heads = Vec::new();
    for page in audit_row::tenants(database, "audit_event").await?.chunks(PAGE) {
        let page: Vec<(Uuid, i64)> = sqlx::query_as(
            "select t.tenant_id, head.position from unnest($1::uuid[]) as t (tenant_id)
             cross join lateral (
                 select position from audit_event a where a.tenant_id = t.tenant_id order by position desc limit 1
             ) head",
        )
        .bind(page.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
        .fetch_all(database)
        .await?;
        heads.extend(page.into_iter().map(|(tenant, position)| (TenantId(tenant), position.unsigned_abs())));
    }
    Ok(heads)
}

/// The end of a tenant's chain, where it follows from the row before and from what was signed before, and is what the log makes of
/// it. Either row may be archived by now; the newest row never is.
pub async fn head(database: &PgPool, log: &Log, tenant: TenantId, before: Option<&Signed>) -> Result<Head, Error> {
    // Rows, list and checkpoint of one moment.
    let mut moment = database.begin_with("begin isolation level repeatable read read only").await?;
    let select = format!("select {COLUMNS} from audit_event where tenant_id = $1 order by position desc limit 2");
    let rows: Vec<SpelledRow> = sqlx::query_as(&select).bind(tenant.0).fetch_all(&mut *moment).await?;
    let Some(SpelledRow { row: newest, .. }) = rows.first() else {
        return Err(before.map_or(ChainBroken::Empty, |before| ChainBroken::Missing(before.position)).into());
    };
    if let Some(changed) = rows.iter().find(|spelled| spelled.row.hash != spelled.row.hash_over(&spelled.data)) {
        return Err(ChainBroken::Changed(changed.row.position).into());
    }
    let previous = match rows.get(1) {
        Some(SpelledRow { row, .. }) => Some((row.position, row.hash.clone())),
        None if newest.position == 1 => Some((0, genesis_hash(tenant))),
        None => segment(&mut moment, tenant, newest.position - 1).await?.map(|found| (found.name.last_position, found.hash)),
    };
    if previous != Some((newest.position.saturating_sub(1), newest.prev_hash.clone())) {
        return Err(ChainBroken::Unlinked(newest.position).into());
    }
    let mut archived = None;
    if let Some(Signed { position, hash }) = before {
        let select = format!("select {COLUMNS} from audit_event where tenant_id = $1 and position = $2");
        let found: Option<SpelledRow> =
            sqlx::query_as(&select).bind(tenant.0).bind(signed(*position)).fetch_optional(&mut *moment).await?;
        match found {
            Some(found) if found.row.hash != *hash || found.row.hash_over(&found.data) != *hash => {
                return Err(ChainBroken::Rewritten(*position).into());
            }
            Some(_) => {}
            None => {
                let found = segment(&mut moment, tenant, *position).await?.filter(|_| *position < newest.position);
                archived =
                    Some((found.ok_or(ChainBroken::Missing(*position))?, Signed { position: *position, hash: hash.clone() }));
            }
        }
    }
    let partition = Partition::of(tenant, log.partitions());
    let checkpoint: Option<(i64, bool)> = sqlx::query_as(
        "select stream_sequence, halted_sequence is not null from projection_checkpoint where projection = $1 and partition = $2",
    )
    .bind(PROJECTION)
    .bind(i32::from(partition.0))
    .fetch_optional(&mut *moment)
    .await?;
    moment.commit().await?;
    let (projected, is_halted) = checkpoint.map_or((0, false), |(sequence, is_halted)| (sequence.unsigned_abs(), is_halted));
    if is_halted {
        return Err(ChainBroken::Halted.into());
    }
    if newest.stream_sequence > projected {
        return Err(ChainBroken::NotProjected(newest.position).into());
    }
    if let Some((segment, signed)) = archived {
        compare(&Archive::open(log).await?, &segment, &signed).await?;
    }
    let message = log.message_at(partition, newest.stream_sequence).await?;
    let link = Link { position: newest.position - 1, hash: newest.prev_hash.clone() };
    let again = message.and_then(|message| follow(&message, log.partitions(), &link));
    if again.is_none_or(|again| again.hash != newest.hash) {
        return Err(ChainBroken::NotInLog(newest.position).into());
    }
    Ok(Head {
        tenant_id: tenant,
        position: newest.position,
        hash: newest.hash.clone(),
        partition,
        stream_sequence: newest.stream_sequence,
    })
}

/// A segment as it is listed.
struct Segment {
    name: SegmentName,
    prev_hash: String,
    hash: String,
    size: u64,
}

/// The segment that a row has left the table for.
async fn segment(database: &mut PgConnection, tenant: TenantId, position: u64) -> Result<Option<Segment>, sqlx::Error> {
    let segment: Option<(i64, i64, String, String, i64)> = sqlx::query_as(
        "select first_position, last_position, prev_hash, hash, size from audit_segment
         where tenant_id = $1 and $2 between first_position and last_position",
    )
    .bind(tenant.0)
    .bind(signed(position))
    .fetch_optional(database)
    .await?;
    Ok(segment.map(|(first, last, prev_hash, hash, size)| Segment {
        name: SegmentName { tenant, first_position: first.unsigned_abs(), last_position: last.unsigned_abs() },
        prev_hash,
        hash,
        size: size.unsigned_abs(),
    }))
}

/// Checks that the row that was signed is in its segment, and that the segment leads from there to the end that is listed.
async fn compare(store: &Archive, segment: &Segment, signed: &Signed) -> Result<(), Error> {
    let Segment { name, prev_hash, hash, size } = segment;
    let bytes = store.get(*name, size + 1).await.map_err(|error| match error {
        // A line in the list that no segment stands behind.
        ArtifactError::NotFound => ChainBroken::Missing(signed.position).into(),
        error => Error::from(error),
    })?;
    let rewritten = || ChainBroken::Rewritten(signed.position);
    let rows = archive::unpack(&bytes, name.last_position - name.first_position + 1).map_err(|_| rewritten())?;
    let (mut position, mut end) = (name.first_position - 1, prev_hash);
    for row in &rows {
        audit::verify((position, end), row).map_err(|_| rewritten())?;
        if row.position == signed.position && row.hash != signed.hash {
            return Err(rewritten().into());
        }
        (position, end) = (row.position, &row.hash);
    }
    if end == hash { Ok(()) } else { Err(rewritten().into()) }
}
