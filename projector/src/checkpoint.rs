use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool, postgres::types::Oid};
use toolgate_events::Partition;
use toolgate_store::{LoadError, Log};
use uuid::Uuid;

use crate::PROJECTION;

/// How far one partition is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Stream sequence of the last projected event, 0 for none.
    pub stream_sequence: u64,
    /// Of that event, unless nobody could read it.
    pub event_id: Option<Uuid>,
    /// The table that it was read from. Another one may take its place and its name while a projector runs; what that projector
    /// holds in memory is then of the past.
    pub table: Oid,
}

/// Why a partition must not be projected on: its log is not the one the checkpoint was taken from.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error("the log ends at {last_sequence}, before the checkpoint at {checkpoint}: it has lost events")]
    WentBackwards { last_sequence: u64, checkpoint: u64 },
    #[error("event {stream_sequence} of the log is not the one that was projected: the log has been replaced or changed")]
    Changed { stream_sequence: u64 },
    #[error("the log continues at {found} where {expected} was due: it has lost events")]
    Gap { expected: u64, found: u64 },
}

/// The checkpoints of `partitions`, which exist afterwards.
///
/// # Errors
/// Whatever the database says.
pub async fn load(database: &PgPool, partitions: &[Partition]) -> Result<BTreeMap<Partition, Checkpoint>, sqlx::Error> {
    let indexes: Vec<i32> = partitions.iter().map(|partition| i32::from(partition.0)).collect();
    sqlx::query(
        "insert into projection_checkpoint (projection, partition, stream_sequence)
         select $1, partition, 0 from unnest($2::int[]) as partition on conflict do nothing",
    )
    .bind(PROJECTION)
    .bind(&indexes)
    .execute(database)
    .await?;
    let mut connection = database.acquire().await?;
    read(&mut connection, partitions).await
}

/// The checkpoints of those of `partitions` that have one.
///
/// # Errors
/// Whatever the database says.
pub async fn read(database: &mut PgConnection, partitions: &[Partition]) -> Result<BTreeMap<Partition, Checkpoint>, sqlx::Error> {
    let indexes: Vec<i32> = partitions.iter().map(|partition| i32::from(partition.0)).collect();
    let rows: Vec<(i32, i64, Option<Uuid>, Oid)> = sqlx::query_as(
        "select partition, stream_sequence, event_id, tableoid from projection_checkpoint
         where projection = $1 and partition = any($2)",
    )
    .bind(PROJECTION)
    .bind(&indexes)
    .fetch_all(database)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(partition, stream_sequence, event_id, table)| {
            let stream_sequence = u64::try_from(stream_sequence).ok()?;
            Some((Partition(u16::try_from(partition).ok()?), Checkpoint { stream_sequence, event_id, table }))
        })
        .collect())
}

/// Checks that the log still holds what was projected.
///
/// # Errors
/// The broker's, for "could not be checked"; the inner [`Mismatch`] is the finding.
pub async fn verify(
    log: &Log,
    partition: Partition,
    checkpoint: Checkpoint,
    last_sequence: u64,
) -> Result<Result<(), Mismatch>, LoadError> {
    let Checkpoint { stream_sequence, event_id, .. } = checkpoint;
    if last_sequence < stream_sequence {
        return Ok(Err(Mismatch::WentBackwards { last_sequence, checkpoint: stream_sequence }));
    }
    let Some(event_id) = event_id.filter(|_| stream_sequence > 0) else { return Ok(Ok(())) };
    let found = match log.event_at(partition, stream_sequence).await {
        Ok(found) => found.map(|envelope| envelope.event_id),
        // The projected event could be read then, so bytes that cannot be read now are other bytes.
        Err(LoadError::Decode(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(if found == Some(event_id) { Ok(()) } else { Err(Mismatch::Changed { stream_sequence }) })
}

/// Moves checkpoints on, and only from where they are believed to be: of two projectors at most one succeeds.
///
/// # Errors
/// [`sqlx::Error::RowNotFound`] when another projector has moved one of them, or another table has taken their place.
pub async fn advance(
    transaction: &mut PgConnection,
    moves: &BTreeMap<Partition, (Checkpoint, Checkpoint)>,
) -> Result<(), sqlx::Error> {
    let partitions: Vec<i32> = moves.keys().map(|partition| i32::from(partition.0)).collect();
    let signed = |sequence: u64| i64::try_from(sequence).unwrap_or(i64::MAX);
    let from: Vec<i64> = moves.values().map(|(from, _)| signed(from.stream_sequence)).collect();
    let to: Vec<i64> = moves.values().map(|(_, to)| signed(to.stream_sequence)).collect();
    let event_ids: Vec<Option<Uuid>> = moves.values().map(|(_, to)| to.event_id).collect();
    let tables: Vec<Oid> = moves.values().map(|(from, _)| from.table).collect();
    let moved = sqlx::query(
        "update projection_checkpoint c
         set stream_sequence = n.upto, event_id = n.event_id, updated_at = now()
         from unnest($2::int[], $3::bigint[], $4::bigint[], $5::uuid[], $6::oid[])
             as n (partition, since, upto, event_id, relation)
         where c.projection = $1 and c.partition = n.partition and c.stream_sequence = n.since and c.tableoid = n.relation",
    )
    .bind(PROJECTION)
    .bind(partitions)
    .bind(from)
    .bind(to)
    .bind(event_ids)
    .bind(tables)
    .execute(transaction)
    .await?
    .rows_affected();
    if moved == moves.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}
