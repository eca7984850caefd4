use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream::SelectAll};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use toolgate_events::{Partition, TenantId};
use toolgate_store::{ConsumeError, KeyError, LoadError, LogError, LogReader, Projected, Received, crash};

use crate::{
    Environment, Options,
    batch::{self, Head, Numbered},
    checkpoint::{self, Checkpoint, Mismatch},
    content, heads,
    metrics::Metrics,
    ownership::Ownership,
    projections,
};

/// How long a batch waits for company: a multiple of what the last commit took, so that under load commits take up a bounded part
/// of the time and the batches grow. The shortest wait lets a quick call's outcome join its request in one transaction, instead
/// of having the database busy with the request while the call is being answered.
const LINGER_PER_COMMIT: u32 = 4;
const SHORTEST_LINGER: Duration = Duration::from_millis(4);
const LONGEST_LINGER: Duration = Duration::from_millis(20);
/// Runs side by side, each with partitions of its own: while one waits for the database, the other decodes.
const RUNS: u16 = 2;
/// Bytes of events in one batch at the most.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often free partitions are looked for and the owned ones compared with the log.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Tenants whose chain heads are remembered.
const MAX_HEADS: usize = 50_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Projects the partitions this process owns.
pub struct Projector {
    environment: Environment,
    options: Options,
    metrics: Metrics,
}

/// Why a run ended. Every run starts again from the checkpoints.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the log: {0}")]
    Consume(#[from] ConsumeError),
    #[error("the log: {0}")]
    Load(#[from] LoadError),
    #[error("the log: {0}")]
    Log(#[from] LogError),
    #[error("content cannot be opened: {0}")]
    Keys(#[from] KeyError),
    #[error("the connection to the log was renewed")]
    Reconnected,
}

/// What one run holds in memory. All of it can be had again from the database.
struct Run {
    /// Its partitions are those that leave this remainder.
    index: u16,
    ownership: Ownership,
    checkpoints: BTreeMap<Partition, Checkpoint>,
    heads: HashMap<TenantId, Head>,
    readers: SelectAll<LogReader>,
    last_commit: Duration,
}

impl Projector {
    pub fn new(environment: Environment, options: Options, registry: &mut Registry) -> Self {
        Self { environment, options, metrics: Metrics::register(registry) }
    }

    /// Projects until `shutdown`. Whatever breaks, it starts again from the checkpoints.
    pub async fn run(self, shutdown: CancellationToken) {
        join_all((0..RUNS).map(|index| self.run_again(index, &shutdown))).await;
        self.environment.log.flush().await;
    }

    async fn run_again(&self, index: u16, shutdown: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            let Err(broken) = self.run_once(index, shutdown).await else { break };
            tracing::warn!(reason = %broken, "projecting starts again from the checkpoints");
            if began.elapsed() > LAST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let _ended = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn run_once(&self, index: u16, shutdown: &CancellationToken) -> Result<(), Broken> {
        let mut run = Run {
            index,
            ownership: Ownership::open(&self.environment.database).await?,
            checkpoints: BTreeMap::new(),
            heads: HashMap::new(),
            readers: SelectAll::new(),
            last_commit: Duration::ZERO,
        };
        let connections = self.environment.log.connections();
        self.look_around(&mut run).await?;
        let mut look_around = interval(LOOK_AROUND);
        look_around.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    run.ownership.release().await;
                    return Ok(());
                }
                _ = look_around.tick() => {
                    if self.environment.log.connections() != connections {
                        return Err(Broken::Reconnected);
                    }
                    self.look_around(&mut run).await?;
                }
                Some(message) = run.readers.next(), if !run.readers.is_empty() => {
                    let messages = self.gather(&mut run, message?).await?;
                    self.project(&mut run, &messages).await?;
                }
            }
        }
    }

    /// Takes free partitions, and checks that the log still continues what was projected. A partition whose log does not is left
    /// alone, loudly; the others go on.
    async fn look_around(&self, run: &mut Run) -> Result<(), Broken> {
        let log = &self.environment.log;
        let claimed = run.ownership.claim(log.all_partitions().filter(|partition| partition.0 % RUNS == run.index)).await?;
        let last: BTreeMap<_, _> = log.state().await?.into_iter().map(|state| (state.partition, state.last_sequence)).collect();
        let last_of = |partition: Partition| last.get(&partition).copied().unwrap_or_default();
        let went_backwards: Vec<_> = run
            .checkpoints
            .iter()
            .map(|(partition, checkpoint)| (*partition, last_of(*partition), checkpoint.stream_sequence))
            .filter(|(_, last_sequence, checkpoint)| last_sequence < checkpoint)
            .collect();
        for (partition, last_sequence, checkpoint) in went_backwards {
            self.halt(run, partition, &Mismatch::WentBackwards { last_sequence, checkpoint });
        }
        if claimed.is_empty() {
            return Ok(());
        }
        for (partition, checkpoint) in checkpoint::load(&self.environment.database, &claimed).await? {
            if let Err(mismatch) = checkpoint::verify(log, partition, checkpoint, last_of(partition)).await? {
                self.halt(run, partition, &mismatch);
                continue;
            }
            self.metrics.halted(partition.0, false);
            let ended = Err(ConsumeError::Stopped(format!("the reading of partition {partition} ended")));
            let ended = futures::stream::once(std::future::ready(ended));
            run.readers.push(log.read_after(partition, checkpoint.stream_sequence).await?.chain(ended).boxed());
            run.checkpoints.insert(partition, checkpoint);
        }
        Ok(())
    }

    /// Leaves a partition alone, loudly: its log does not continue what was projected, and going on would build on a gap. What
    /// its reader still brings is passed over; an operator decides.
    fn halt(&self, run: &mut Run, partition: Partition, mismatch: &Mismatch) {
        tracing::error!(partition = %partition, reason = %mismatch, "partition halted");
        self.metrics.halted(partition.0, true);
        run.checkpoints.remove(&partition);
    }

    /// `first` and what else is there, up to a batch.
    async fn gather(&self, run: &mut Run, first: Received) -> Result<Vec<Received>, Broken> {
        let mut bytes = first.payload.len();
        let mut messages = vec![first];
        let linger = (run.last_commit * LINGER_PER_COMMIT).clamp(SHORTEST_LINGER, LONGEST_LINGER);
        let deadline = Instant::now() + linger;
        while messages.len() < self.options.batch_size && bytes < MAX_BATCH_BYTES {
            match timeout_at(deadline, run.readers.next()).await {
                Ok(Some(message)) => {
                    let message = message?;
                    bytes += message.payload.len();
                    messages.push(message);
                }
                Ok(None) | Err(_) => break,
            }
        }
        Ok(messages)
    }

    async fn project(&self, run: &mut Run, messages: &[Received]) -> Result<(), Broken> {
        let mut moves: BTreeMap<Partition, (Checkpoint, Checkpoint)> = BTreeMap::new();
        heads::load(&self.environment.database, self.environment.log.partitions(), &mut run.heads, messages).await?;
        let opened = content::open(self.environment.log.keys(), messages).await?;
        let mut events = Vec::with_capacity(messages.len());
        let mut halted: Vec<(Partition, Mismatch)> = Vec::new();
        for (message, opened) in messages.iter().zip(&opened) {
            if halted.iter().any(|(partition, _)| *partition == message.partition) {
                continue;
            }
            let Some(known) = run.checkpoints.get(&message.partition).copied() else { continue };
            let (_, upto) = moves.entry(message.partition).or_insert((known, known));
            let expected = upto.stream_sequence + 1;
            if message.stream_sequence < expected {
                continue;
            }
            if message.stream_sequence > expected {
                let mismatch = Mismatch::Gap { expected, found: message.stream_sequence };
                // What came before the gap is projected; the rest of this partition is not.
                halted.push((message.partition, mismatch));
                continue;
            }
            let event = batch::number(message, content::as_ref(opened), self.environment.log.partitions(), &mut run.heads);
            let readable = event.as_ref().filter(|event| event.event.is_ok());
            *upto = Checkpoint { stream_sequence: expected, event_id: readable.map(|event| event.row.event_id), ..known };
            match event {
                Some(event) => events.push(event),
                None => {
                    tracing::error!(subject = message.subject, "a message without a place in a tenant's history was passed over")
                }
            }
        }
        moves.retain(|_, (since, upto)| since.stream_sequence < upto.stream_sequence);
        let began = Instant::now();
        let parked = self.commit(&events, &moves).await.map_err(|error| match error {
            projections::Error::Database(error) => Broken::Database(error),
            projections::Error::Keys(error) => Broken::Keys(error),
        })?;
        run.last_commit = began.elapsed();
        crash::point("projector.committed");
        self.metrics.projected.inc_by(events.len() as u64);
        self.metrics.parked.inc_by(parked);
        run.checkpoints.extend(moves.into_iter().map(|(partition, (_, upto))| (partition, upto)));
        for (partition, mismatch) in &halted {
            self.halt(run, *partition, mismatch);
        }
        self.announce(&events, &run.heads).await;
        if run.heads.len() > MAX_HEADS {
            run.heads.clear();
        }
        Ok(())
    }

    /// Rows, chain and checkpoint, all or nothing. The log is the truth and the checkpoint is among what is written, so the commit
    /// need not wait for the disk: what a power cut takes is projected again, to the same rows.
    async fn commit(
        &self,
        events: &[Numbered],
        moves: &BTreeMap<Partition, (Checkpoint, Checkpoint)>,
    ) -> Result<u64, projections::Error> {
        let begin = "begin; set local synchronous_commit = off";
        let mut transaction = self.environment.database.begin_with(begin).await?;
        checkpoint::advance(&mut transaction, moves).await?;
        let parked = if events.is_empty() {
            0
        } else {
            projections::project(&mut transaction, events, self.environment.log.keys()).await?
        };
        crash::point("projector.written");
        transaction.commit().await?;
        Ok(parked)
    }

    async fn announce(&self, events: &[Numbered], heads: &HashMap<TenantId, Head>) {
        // Of several events of a tenant the last stays.
        let newest: HashMap<_, _> = events.iter().map(|event| (event.tenant_id, &event.row)).collect();
        for (tenant, row) in newest {
            let open_calls = heads.get(&tenant).map(|head| head.open_calls);
            let projected = Projected { tenant, position: row.position, stream_sequence: row.stream_sequence, open_calls };
            self.environment.log.announce_projected(projected).await;
        }
    }
}

impl fmt::Debug for Projector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector").field("options", &self.options).finish_non_exhaustive()
    }
}
