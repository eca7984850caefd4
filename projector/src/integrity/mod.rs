//! Whether the log still is what was projected: the log against the audit trail, event by event, and the trail against itself.
//!
//! The log is asked for each event by its place, so that one that is gone is told from one that is late. Its row is computed anew
//! from its bytes and the hash before it, and must come out as the row that is there.

mod archived;
mod compare;
mod rows;
mod tail;
mod walk;

use futures::{StreamExt, TryStreamExt, stream};
use toolgate_events::Partition;
use toolgate_store::{LoadError, Log, PartitionState, Received};

pub use self::{
    compare::{Link, follow},
    tail::{around, last, tail},
    walk::{Finding, Owned, Walk},
};
use crate::checkpoint::{Checkpoint, Halt};

/// Requests for single events under way at once.
const CONCURRENCY: usize = 16;

/// Why a partition must not be projected on: its log is not the one that was projected, or the trail is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("the log ends at {last_sequence}, before the checkpoint at {checkpoint}: it has lost events")]
    WentBackwards { last_sequence: u64, checkpoint: u64 },
    #[error("event {stream_sequence} of the log is not the one that was projected: the log has been replaced or changed")]
    Changed { stream_sequence: u64 },
    #[error("the log continues at {found} where {expected} was due: it has lost events")]
    Gap { expected: u64, found: u64 },
    #[error("the log begins at {first_sequence}: it has lost the events before")]
    Trimmed { first_sequence: u64 },
    #[error("{deleted} events are gone from the middle of the log")]
    Deleted { deleted: u64 },
    #[error("event {stream_sequence} is gone from the log")]
    Missing { stream_sequence: u64 },
    #[error("the broker cannot read event {stream_sequence} of the log any more")]
    Unreadable { stream_sequence: u64 },
    #[error("event {stream_sequence} of the log differs from its audit row at position {position}")]
    Differs { stream_sequence: u64, position: u64 },
    #[error("the audit row at position {position}, of event {stream_sequence}, was changed: its hash is not that of its content")]
    RowChanged { stream_sequence: u64, position: u64 },
    #[error("the audit row at position {position}, of event {stream_sequence}, does not follow the row before it")]
    Unlinked { stream_sequence: u64, position: u64 },
    #[error("the audit row at position {position}, of event {stream_sequence}, is gone")]
    NoRow { stream_sequence: u64, position: u64 },
    #[error("the log up to event {stream_sequence} differs from the archived audit rows up to position {position}")]
    DiffersFromArchive { stream_sequence: u64, position: u64 },
    #[error("the audit row at position {position} says that it is of event {stream_sequence}, which is no event of its tenant")]
    Extra { stream_sequence: u64, position: u64 },
    #[error(
        "the list of archived segments is wrong from position {position} on: the newest row is never archived, and nothing is left out"
    )]
    Archive { stream_sequence: u64, position: u64 },
}

impl Mismatch {
    /// The place in the log that is looked at again before the partition goes on.
    pub fn stream_sequence(&self) -> u64 {
        match self {
            Self::WentBackwards { checkpoint, .. } => *checkpoint,
            Self::Gap { expected, .. } => *expected,
            Self::Trimmed { first_sequence } => *first_sequence,
            // Not known; the state of the stream itself is looked at.
            Self::Deleted { .. } => 0,
            Self::Changed { stream_sequence }
            | Self::Missing { stream_sequence }
            | Self::Unreadable { stream_sequence }
            | Self::Differs { stream_sequence, .. }
            | Self::RowChanged { stream_sequence, .. }
            | Self::Unlinked { stream_sequence, .. }
            | Self::NoRow { stream_sequence, .. }
            | Self::DiffersFromArchive { stream_sequence, .. }
            | Self::Archive { stream_sequence, .. }
            | Self::Extra { stream_sequence, .. } => *stream_sequence,
        }
    }

    /// The tenant's position, where the trail comes into it.
    pub fn position(&self) -> Option<u64> {
        match self {
            Self::Differs { position, .. }
            | Self::RowChanged { position, .. }
            | Self::Unlinked { position, .. }
            | Self::NoRow { position, .. }
            | Self::DiffersFromArchive { position, .. }
            | Self::Archive { position, .. }
            | Self::Extra { position, .. } => Some(*position),
            _ => None,
        }
    }

    /// For the record.
    pub fn halt(&self) -> Halt {
        Halt { reason: self.to_string(), stream_sequence: self.stream_sequence() }
    }
}

/// Why a check came to no end.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the log: {0}")]
    Load(#[from] LoadError),
}

/// The outer error for "could not be checked", the inner one for what was found.
pub type Checked = Result<Result<(), Mismatch>, Unchecked>;

/// What the broker's own figures say of a partition's stream: a log is never trimmed, and nothing is ever deleted from it.
///
/// # Errors
/// [`Mismatch`]
pub fn whole(state: &PartitionState, checkpoint: Checkpoint) -> Result<(), Mismatch> {
    if state.last_sequence < checkpoint.stream_sequence {
        return Err(Mismatch::WentBackwards { last_sequence: state.last_sequence, checkpoint: checkpoint.stream_sequence });
    }
    if state.last_sequence > 0 && state.first_sequence > 1 {
        return Err(Mismatch::Trimmed { first_sequence: state.first_sequence });
    }
    if state.deleted > 0 {
        return Err(Mismatch::Deleted { deleted: state.deleted });
    }
    Ok(())
}

/// The events at `from` to `upto`, both included, up to the first that is not there, which is told as well.
async fn read(log: &Log, partition: Partition, from: u64, upto: u64) -> Result<(Vec<Received>, Result<(), Mismatch>), Unchecked> {
    let mut messages: Vec<_> =
        stream::iter(from..=upto).map(|sequence| log.message_at(partition, sequence)).buffered(CONCURRENCY).try_collect().await?;
    let there = messages.iter().take_while(|message| message.is_some()).count();
    let found = if there < messages.len() { Err(Mismatch::Missing { stream_sequence: from + there as u64 }) } else { Ok(()) };
    messages.truncate(there);
    Ok((messages.into_iter().flatten().collect(), found))
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::types::Oid;

    use super::*;

    fn state(first_sequence: u64, last_sequence: u64, deleted: u64) -> PartitionState {
        PartitionState { partition: Partition(0), messages: 0, bytes: 0, first_sequence, last_sequence, deleted }
    }

    #[test]
    fn a_stream_is_whole_from_one_to_the_checkpoint_at_least() {
        let at = |stream_sequence| Checkpoint { stream_sequence, event_id: None, table: Oid(0) };
        assert_eq!(whole(&state(1, 5, 0), at(5)), Ok(()));
        assert_eq!(whole(&state(1, 6, 0), at(5)), Ok(()));
        assert_eq!(whole(&state(1, 4, 0), at(5)), Err(Mismatch::WentBackwards { last_sequence: 4, checkpoint: 5 }));
        // An empty stream says that it begins at 0 or at 1.
        assert_eq!(whole(&state(0, 0, 0), at(0)), Ok(()));
        assert_eq!(whole(&state(1, 0, 0), at(0)), Ok(()));
        assert_eq!(whole(&state(2, 5, 0), at(5)), Err(Mismatch::Trimmed { first_sequence: 2 }));
        assert_eq!(whole(&state(1, 5, 1), at(5)), Err(Mismatch::Deleted { deleted: 1 }));
    }
}
