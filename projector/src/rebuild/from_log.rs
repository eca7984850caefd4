//! From the log, partition by partition, each up to where the live projections are.

use std::collections::{BTreeMap, HashMap};

use futures::{
    StreamExt,
    stream::{self, SelectAll},
};
use tokio::task::JoinSet;
use toolgate_events::{Partition, TenantId};
use toolgate_store::{ConsumeError, LoadError, Log, LogReader, Received};

use super::{Error, Progress, commit::commit};
use crate::{
    Environment,
    batch::{self, Head},
    checkpoint::{self, Checkpoint},
    content, heads,
    integrity::Mismatch,
};

/// Runs side by side, each with partitions of its own: while one waits for the database or for the log, the others decode.
const RUNS: u16 = 3;
/// Bytes of events in one batch at the most.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Tenants whose chain heads are remembered.
const MAX_HEADS: usize = 50_000;

/// Projects everything up to `targets`; answers with how many events that took.
///
/// # Errors
/// [`Error`]; what was committed stays.
pub async fn forward(
    environment: &Environment,
    targets: &BTreeMap<Partition, Checkpoint>,
    batch_size: usize,
    progress: &Progress,
) -> Result<u64, Error> {
    let mut runs = JoinSet::new();
    for index in 0..RUNS {
        let own = targets.iter().filter(|(partition, _)| partition.0 % RUNS == index);
        let own = own.map(|(partition, target)| (*partition, *target)).collect();
        let (environment, progress) = (environment.clone(), progress.clone());
        runs.spawn(async move { Run::begin(environment, own, progress).await?.run(batch_size).await });
    }
    let mut events = 0;
    // The others end with the first that fails, or with whoever waits here.
    while let Some(ended) = runs.join_next().await {
        match ended {
            Ok(outcome) => events += outcome?,
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    Ok(events)
}

struct Run {
    environment: Environment,
    targets: BTreeMap<Partition, Checkpoint>,
    progress: Progress,
    checkpoints: BTreeMap<Partition, Checkpoint>,
    heads: HashMap<TenantId, Head>,
    readers: SelectAll<LogReader>,
}

/// Checks that the log still has the event that the rebuild has come to.
async fn check(log: &Log, partition: Partition, reached: &Checkpoint) -> Result<(), Error> {
    let stream_sequence = reached.stream_sequence;
    let Some(event_id) = reached.event_id.filter(|_| stream_sequence > 0) else { return Ok(()) };
    let found = match log.event_at(partition, stream_sequence).await {
        Ok(found) => found.map(|envelope| envelope.event_id),
        // It could be read then, so bytes that cannot be read now are other bytes.
        Err(LoadError::Decode(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if found == Some(event_id) {
        return Ok(());
    }
    Err(Error::Mismatch { partition, mismatch: Mismatch::Changed { stream_sequence } })
}

impl Run {
    async fn begin(
        environment: Environment,
        targets: BTreeMap<Partition, Checkpoint>,
        progress: Progress,
    ) -> Result<Self, Error> {
        let partitions: Vec<_> = targets.keys().copied().collect();
        let checkpoints = checkpoint::load(&environment.database, &partitions).await?;
        let (heads, mut readers) = (HashMap::new(), SelectAll::new());
        for (partition, checkpoint) in &checkpoints {
            let (partition, reached) = (*partition, checkpoint.stream_sequence);
            let target = targets[&partition].stream_sequence;
            progress.begin(partition, reached, target);
            if reached > target {
                return Err(Error::Ahead { partition });
            }
            if reached == target {
                continue;
            }
            let last = environment.log.partition_state(partition).await?.last_sequence;
            if last < target {
                let mismatch = Mismatch::WentBackwards { last_sequence: last, checkpoint: target };
                return Err(Error::Mismatch { partition, mismatch });
            }
            check(&environment.log, partition, checkpoint).await?;
            readers.push(upto(environment.log.read_after(partition, reached).await?, target));
        }
        Ok(Self { environment, targets, progress, checkpoints, heads, readers })
    }

    async fn run(mut self, batch_size: usize) -> Result<u64, Error> {
        let mut events = 0;
        loop {
            let messages = self.gather(batch_size).await?;
            if messages.is_empty() {
                break;
            }
            self.project(&messages).await?;
            events += messages.len() as u64;
        }
        for (partition, reached) in &self.checkpoints {
            let target = self.targets[partition];
            if (reached.stream_sequence, reached.event_id) != (target.stream_sequence, target.event_id) {
                let mismatch = Mismatch::Changed { stream_sequence: target.stream_sequence };
                return Err(Error::Mismatch { partition: *partition, mismatch });
            }
        }
        Ok(events)
    }

    /// The next events, in order within each partition; fewer than asked for only at the end.
    async fn gather(&mut self, batch_size: usize) -> Result<Vec<Received>, ConsumeError> {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < batch_size
            && bytes < MAX_BATCH_BYTES
            && let Some(message) = self.readers.next().await
        {
            let message = message?;
            bytes += message.payload.len();
            messages.push(message);
        }
        Ok(messages)
    }

    async fn project(&mut self, messages: &[Received]) -> Result<(), Error> {
        let (database, partitions) = (&self.environment.database, self.environment.log.partitions());
        if self.heads.len() > MAX_HEADS {
            self.heads.clear();
        }
        heads::load(database, partitions, &mut self.heads, messages).await?;
        let opened = content::open(self.environment.log.keys(), messages).await?;
        let mut moves: BTreeMap<Partition, (Checkpoint, Checkpoint)> = BTreeMap::new();
        let mut events = Vec::with_capacity(messages.len());
        for (message, opened) in messages.iter().zip(&opened) {
            let partition = message.partition;
            let Some(known) = self.checkpoints.get(&partition).copied() else { continue };
            let (_, reached) = moves.entry(partition).or_insert((known, known));
            let expected = reached.stream_sequence + 1;
            if message.stream_sequence != expected {
                let mismatch = Mismatch::Gap { expected, found: message.stream_sequence };
                return Err(Error::Mismatch { partition, mismatch });
            }
            let event = batch::number(message, content::as_ref(opened), partitions, &mut self.heads);
            let readable = event.as_ref().filter(|event| event.event.is_ok());
            *reached = Checkpoint { stream_sequence: expected, event_id: readable.map(|event| event.row.event_id), ..known };
            events.extend(event);
        }
        let parked = commit(&self.environment, &mut events, &moves).await?;
        heads::note_parked(&mut self.heads, &events, parked);
        self.progress.count(messages.len());
        for (partition, (_, reached)) in moves {
            self.progress.reach(partition, reached.stream_sequence);
            self.checkpoints.insert(partition, reached);
        }
        Ok(())
    }
}

/// A reading that ends at `target`. Nothing beyond it is taken, and nothing that may never come is waited for.
fn upto(reader: LogReader, target: u64) -> LogReader {
    let bounded = stream::unfold(Some(reader), move |reader| async move {
        let mut reader = reader?;
        let message = match reader.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Some((Err(error), None)),
            None => return Some((Err(ConsumeError::Stopped("the reading of a partition ended".to_owned())), None)),
        };
        let ends = message.stream_sequence >= target;
        Some((Ok(message), (!ends).then_some(reader)))
    });
    bounded.boxed()
}
