use std::collections::HashMap;

use sqlx::PgPool;
use toolgate_events::{Envelope, Partition, TenantId};
use toolgate_store::{Log, Received};

use super::{
    Checked, Mismatch,
    compare::{Link, compare},
    read, rows,
};
use crate::{batch, checkpoint::Checkpoint};

/// Projected events that are compared before a partition goes on.
const TAIL: u64 = 200;

/// Checks that the last projected event is in the log: one that was replaced has another, though it may be as long.
///
/// # Errors
/// [`super::Unchecked`]; the inner error is the finding.
pub async fn last(log: &Log, partition: Partition, checkpoint: Checkpoint) -> Checked {
    let Checkpoint { stream_sequence, event_id, .. } = checkpoint;
    let Some(event_id) = event_id.filter(|_| stream_sequence > 0) else { return Ok(Ok(())) };
    let Some(message) = log.message_at(partition, stream_sequence).await? else {
        return Ok(Err(Mismatch::Missing { stream_sequence }));
    };
    // The projected event could be read then, so bytes that cannot be read now are other bytes.
    let found = Envelope::decode(&message.payload).map(|envelope| envelope.event_id);
    Ok(if found.is_ok_and(|found| found == event_id) { Ok(()) } else { Err(Mismatch::Changed { stream_sequence }) })
}

/// Checks the last projected events of a partition: each is in the log, and is what its row was made of.
///
/// # Errors
/// [`super::Unchecked`]; the inner error is the finding.
pub async fn tail(log: &Log, database: &PgPool, partition: Partition, checkpoint: Checkpoint) -> Checked {
    let upto = checkpoint.stream_sequence;
    stretch(log, database, partition, upto.saturating_sub(TAIL - 1).max(1), upto).await
}

/// Checks the surroundings of a place that was found wrong before, and that no other tenant's row says that it is of that event.
///
/// # Errors
/// [`super::Unchecked`]; the inner error is the finding.
pub async fn around(log: &Log, database: &PgPool, partition: Partition, place: u64, checkpoint: Checkpoint) -> Checked {
    let upto = (place + 1).min(checkpoint.stream_sequence);
    let found = stretch(log, database, partition, place.saturating_sub(1).max(1), upto).await?;
    if found.is_err() || place == 0 {
        return Ok(found);
    }
    let owner = log.message_at(partition, place).await?.and_then(|message| batch::tenant_of(&message, log.partitions()));
    let mut rows = rows::at(database, place).await?;
    rows.retain(|(tenant, _)| Partition::of(*tenant, log.partitions()) == partition);
    // The event's own row, of which there is one.
    if let Some(own) = rows.iter().position(|(tenant, _)| Some(*tenant) == owner) {
        rows.swap_remove(own);
    }
    let extra = rows.first().map(|(_, position)| Mismatch::Extra { stream_sequence: place, position: *position });
    Ok(extra.map_or(Ok(()), Err))
}

async fn stretch(log: &Log, database: &PgPool, partition: Partition, from: u64, upto: u64) -> Checked {
    let (messages, found) = read(log, partition, from, upto).await?;
    if found.is_err() {
        return Ok(found);
    }
    let mut events: HashMap<TenantId, Vec<&Received>> = HashMap::new();
    for message in &messages {
        if let Some(tenant) = batch::tenant_of(message, log.partitions()) {
            events.entry(tenant).or_default().push(message);
        }
    }
    // One more than there are events: the row before them, which is where the chain comes from.
    let wanted: Vec<_> = events.iter().map(|(tenant, events)| (*tenant, events.len() + 1)).collect();
    let archived = rows::archived(database, events.keys().copied()).await?;
    let found = rows::newest(database, &wanted, upto).await?;
    for (tenant, mut events) in events {
        let rows = found.get(&tenant).map(Vec::as_slice).unwrap_or_default();
        // The row before the first event, or the beginning; and where somebody put a row in between, what the first row says of itself.
        let older = rows.iter().take_while(|stored| stored.row.stream_sequence < events[0].stream_sequence).count();
        let (older, rows) = rows.split_at(older);
        let mut link = match (older.last(), rows.first()) {
            (Some(before), _) => Link { position: before.row.position, hash: before.row.hash.clone() },
            (None, Some(first)) if first.row.position > 1 => {
                Link { position: first.row.position - 1, hash: first.row.prev_hash.clone() }
            }
            (None, _) => Link::genesis(tenant),
        };
        // What left the table for the archive is the running check's, also where no row around is left.
        if let Some(archived) = archived.get(&tenant) {
            if let Err(mismatch) = archived.check(events[0].stream_sequence) {
                return Ok(Err(mismatch));
            }
            if let Some((_, place)) = archived.oldest.filter(|(oldest, _)| older.is_empty() && *oldest <= archived.upto() + 1) {
                events.retain(|event| event.stream_sequence >= place);
            }
        }
        let mut rows = rows.iter();
        for event in events {
            match compare(event, log.partitions(), &link, rows.next()) {
                Ok(Some(next)) => link = next,
                Ok(None) => {}
                Err(mismatch) => return Ok(Err(mismatch)),
            }
        }
    }
    Ok(Ok(()))
}
