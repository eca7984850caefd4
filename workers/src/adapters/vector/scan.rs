//! Compares in this process. Rows come in a stream and are compared off the threads that wait for others; what is kept of them is
//! the best alone.

use futures::TryStreamExt;
use sqlx::{
    Row, ValueRef,
    postgres::{PgRow, PgValueFormat},
};
use tokio::sync::mpsc;
use toolgate_security::TenantTx;

use super::{
    Question, Ranked,
    rank::{Best, Comparison},
};
use crate::adapters::ToolError;

/// Rows that are compared at a time.
const CHUNK: usize = 512;
/// Chunks that wait to be compared: what is read ahead is bounded.
const AHEAD: usize = 2;

/// The first places, and how many items were compared.
pub async fn rank(transaction: &mut TenantTx, question: &Question) -> Result<(Vec<Ranked>, usize), ToolError> {
    let (sender, mut chunks) = mpsc::channel::<Vec<PgRow>>(AHEAD);
    let comparison = Comparison::new(question.metric, question.vector.clone());
    let mut best = Best::new(question.depth);
    // Ends with the channel, also when nobody waits for this call any more.
    let comparing = tokio::task::spawn_blocking(move || {
        let mut vector = Vec::with_capacity(comparison.dimensions());
        let mut scanned = 0;
        while let Some(chunk) = chunks.blocking_recv() {
            scanned += chunk.len();
            for row in &chunk {
                read_vector(row, &mut vector)?;
                if vector.len() != comparison.dimensions() {
                    return Err(ToolError::Internal("an item has not its collection's dimensions".to_owned()));
                }
                best.show(row.try_get(0)?, comparison.score(&vector));
            }
        }
        Ok((best.into_ranking(), scanned))
    });
    let rows = sqlx::query(
        "select item_id, embedding from vector_item where collection = $1 and ($2::jsonb is null or metadata @> $2) limit $3",
    )
    .bind(&question.collection)
    .bind(&question.filter)
    .bind(i64::try_from(question.most).unwrap_or(i64::MAX).saturating_add(1))
    .fetch(&mut **transaction);
    let mut rows = rows.try_chunks(CHUNK);
    while let Some(chunk) = rows.try_next().await.map_err(|error| error.1)? {
        if sender.send(chunk).await.is_err() {
            // It has ended early, and says below why.
            break;
        }
    }
    drop((sender, rows));
    comparing.await.map_err(|error| ToolError::Internal(error.to_string()))?
}

/// The numbers of a `real[]` as they come over the wire: a head of five integers, and every number behind its length. Reading them
/// one by one through the driver would take longer than everything else together.
fn read_vector(row: &PgRow, vector: &mut Vec<f32>) -> Result<(), ToolError> {
    const ONE_DIMENSION: [u8; 4] = [0, 0, 0, 1];
    const NUMBER_LENGTH: [u8; 4] = [0, 0, 0, 4];
    let value = row.try_get_raw(1)?;
    let unreadable = || ToolError::Internal("an item's vector is not an array of numbers".to_owned());
    if value.is_null() || value.format() != PgValueFormat::Binary {
        return Err(unreadable());
    }
    let bytes = value.as_bytes().map_err(|_| unreadable())?;
    let (head, numbers) = bytes.split_at_checked(20).ok_or_else(unreadable)?;
    let (numbers, rest) = numbers.as_chunks::<8>();
    if head[..4] != ONE_DIMENSION || !rest.is_empty() || numbers.iter().any(|number| number[..4] != NUMBER_LENGTH) {
        return Err(unreadable());
    }
    vector.clear();
    vector.extend(numbers.iter().map(|[_, _, _, _, number @ ..]| f32::from_be_bytes(*number)));
    Ok(())
}
