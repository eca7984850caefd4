use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool, postgres::types::Oid};
use toolgate_events::Partition;
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

/// A partition that was left alone, as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    pub reason: String,
    /// The place in the log that was found wrong.
    pub stream_sequence: u64,
}

/// The checkpoints of `partitions`, which exist afterwards.
///
/// # Errors
/// Whatever the database says.
pub async fn load(database: &PgPool, partitions: &[Partition]) -> Result<BTreeMap<Partition, Checkpoint>, sqlx::Error> {
    let indexes = indexes(partitions);
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

/// Which of `partitions` are on record as halted.
///
/// # Errors
/// Whatever the database says.
pub async fn halts(database: &PgPool, partitions: &[Partition]) -> Result<BTreeMap<Partition, Halt>, sqlx::Error> {
    let rows: Vec<(i32, String, i64)> = sqlx::query_as(
        "select partition, halted_reason, halted_sequence from projection_checkpoint
         where projection = $1 and partition = any($2) and halted_reason is not null and halted_sequence is not null",
    )
    .bind(PROJECTION)
    .bind(indexes(partitions))
    .fetch_all(database)
    .await?;
    let halt = |(partition, reason, sequence): (i32, String, i64)| {
        let stream_sequence = u64::try_from(sequence).ok()?;
        Some((Partition(u16::try_from(partition).ok()?), Halt { reason, stream_sequence }))
    };
    Ok(rows.into_iter().filter_map(halt).collect())
}

/// Puts down why a partition is left alone. What is on record already keeps its time.
///
/// # Errors
/// Whatever the database says.
pub async fn halt(database: &PgPool, partition: Partition, halt: &Halt) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update projection_checkpoint
         set halted_reason = $3, halted_sequence = $4, halted_at = coalesce(halted_at, now())
         where projection = $1 and partition = $2",
    )
    .bind(PROJECTION)
    .bind(i32::from(partition.0))
    .bind(&halt.reason)
    .bind(i64::try_from(halt.stream_sequence).unwrap_or(i64::MAX))
    .execute(database)
    .await
    .map(drop)
}

/// Puts down that partitions cannot be projected because the database refuses it. They go on by themselves once it does not.
///
/// # Errors
/// Whatever the database says.
pub async fn refused(database: &PgPool, partitions: &[Partition], reason: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update projection_checkpoint set halted_reason = $3, halted_at = coalesce(halted_at, now())
         where projection = $1 and partition = any($2) and halted_sequence is null",
    )
    .bind(PROJECTION)
    .bind(indexes(partitions))
    .bind(reason)
    .execute(database)
    .await
    .map(drop)
}

/// Takes a halt away.
///
/// # Errors
/// Whatever the database says.
pub async fn resume(database: &PgPool, partition: Partition) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update projection_checkpoint set halted_reason = null, halted_at = null, halted_sequence = null
         where projection = $1 and partition = $2",
    )
    .bind(PROJECTION)
    .bind(i32::from(partition.0))
    .execute(database)
    .await
    .map(drop)
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
         set stream_sequence = n.upto, event_id = n.event_id, updated_at = now(),
             halted_reason = null, halted_at = null, halted_sequence = null
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

fn indexes(partitions: &[Partition]) -> Vec<i32> {
    partitions.iter().map(|partition| i32::from(partition.0)).collect()
}
