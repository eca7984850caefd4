use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream::SelectAll};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use toolgate_events::{Partition, TenantId};
use toolgate_store::{ConsumeError, KeyError, LogError, LogReader, PartitionState, Projected, Received, crash};

use crate::{
    Environment, Options,
    audit_checkpoints::AuditCheckpoints,
    batch::{self, Head, Numbered},
    checkpoint::{self, Checkpoint, Halt},
    content, heads,
    integrity::{self, Finding, Mismatch, Owned, Unchecked, Walk},
    metrics::Metrics,
    ownership::{Ownership, PROJECTS},
    parked, projections,
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
/// How often a halted partition is looked at again: it goes on by itself once it has been repaired.
const LOOK_AT_HALTED: Duration = Duration::from_secs(15);
/// How often a key that was missing is looked for again.
const LOOK_FOR_KEY: Duration = Duration::from_secs(5);
/// Tenants whose chain heads are remembered.
const MAX_HEADS: usize = 50_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Projects the partitions this process owns.
pub struct Projector {
    environment: Environment,
    options: Options,
    metrics: Metrics,
    audit_checkpoints: Option<AuditCheckpoints>,
}

/// Why a run ended. Every run starts again from the checkpoints.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the log: {0}")]
    Consume(#[from] ConsumeError),
    #[error("the database: {source}")]
    Commit { partitions: Vec<Partition>, source: sqlx::Error },
    #[error(transparent)]
    Unchecked(#[from] Unchecked),
    #[error("the log: {0}")]
    Log(#[from] LogError),
    #[error("content cannot be opened: {source}")]
    Keys { partitions: Vec<Partition>, source: KeyError },
    #[error("the connection to the log was renewed")]
    Reconnected,
}

/// What one run holds in memory. All of it can be had again from the database.
struct Run {
    /// Its partitions are those that leave this remainder.
    index: u16,
    ownership: Ownership,
    checkpoints: BTreeMap<Partition, Checkpoint>,
    /// Owned and left alone, with when each was looked at last.
    halted: BTreeMap<Partition, Instant>,
    /// The same for those whose next event needs a key that is missing.
    waiting: BTreeMap<Partition, Instant>,
    heads: HashMap<TenantId, Head>,
    readers: SelectAll<LogReader>,
    /// Each ends the reading of its partition.
    stops: HashMap<Partition, CancellationToken>,
    last_commit: Duration,
    /// What the running check may look at, and what it finds.
    owned: watch::Sender<Owned>,
    findings: mpsc::Receiver<Finding>,
    _walk: Option<AbortOnDropHandle<()>>,
}

impl Projector {
    pub fn new(environment: Environment, options: Options, registry: &mut Registry) -> Self {
        Self { environment, options, metrics: Metrics::register(registry), audit_checkpoints: None }
    }

    /// Also signs audit checkpoints of what is projected.
    #[must_use]
    pub fn with_audit_checkpoints(self, audit_checkpoints: AuditCheckpoints) -> Self {
        Self { audit_checkpoints: Some(audit_checkpoints), ..self }
    }

    /// Projects until `shutdown`. Whatever breaks, it starts again from the checkpoints.
    pub async fn run(self, shutdown: CancellationToken) {
        let projecting = async {
            join_all((0..RUNS).map(|index| self.run_again(index, &shutdown))).await;
        };
        let signing = async {
            if let Some(audit_checkpoints) = &self.audit_checkpoints {
                audit_checkpoints.run(&shutdown).await;
            }
        };
        let counting = parked::count(&self.environment.database, &self.metrics);
        tokio::select! {
            _ = async { tokio::join!(projecting, signing) } => {}
            () = counting => {}
        }
        self.environment.log.flush().await;
    }

    async fn run_again(&self, index: u16, shutdown: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            let Err(broken) = self.run_once(index, shutdown).await else { break };
            tracing::warn!(reason = %broken, "projecting starts again from the checkpoints");
            self.record_refusal(&broken).await;
            if began.elapsed() > LAST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let _ended = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn run_once(&self, index: u16, shutdown: &CancellationToken) -> Result<(), Broken> {
        let mut run = self.begin(index).await?;
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
                Some((partition, mismatch)) = run.findings.recv() => {
                    if run.checkpoints.contains_key(&partition) {
                        self.halt(&mut run, partition, &mismatch).await?;
                    }
                }
                Some(message) = run.readers.next(), if !run.readers.is_empty() => {
                    let messages = self.gather(&mut run, message?).await?;
                    self.project_what_opens(&mut run, &messages).await?;
                }
            }
        }
    }

    async fn begin(&self, index: u16) -> Result<Run, Broken> {
        let (owned, watched) = watch::channel(Owned::new());
        let (sender, findings) = mpsc::channel(1);
        let events_per_second = self.options.verify_events_per_second;
        let walk = (events_per_second > 0).then(|| {
            let walk = Walk {
                log: self.environment.log.clone(),
                database: self.environment.database.clone(),
                metrics: self.metrics.clone(),
                events_per_second: events_per_second.div_ceil(u32::from(RUNS)),
                owned: watched,
                findings: sender,
            };
            AbortOnDropHandle::new(tokio::spawn(walk.run()))
        });
        Ok(Run {
            index,
            ownership: Ownership::open(&self.environment.database, PROJECTS).await?,
            checkpoints: BTreeMap::new(),
            halted: BTreeMap::new(),
            waiting: BTreeMap::new(),
            heads: HashMap::new(),
            readers: SelectAll::new(),
            stops: HashMap::new(),
            last_commit: Duration::ZERO,
            owned,
            findings,
            _walk: walk,
        })
    }

    /// Takes free partitions, and checks that the log still continues what was projected. A partition whose log does not is left
    /// alone, loudly; the others go on.
    async fn look_around(&self, run: &mut Run) -> Result<(), Broken> {
        let log = &self.environment.log;
        let mut due = run.ownership.claim(log.all_partitions().filter(|partition| partition.0 % RUNS == run.index)).await?;
        for (left_alone, pause) in [(&run.halted, LOOK_AT_HALTED), (&run.waiting, LOOK_FOR_KEY)] {
            due.extend(left_alone.iter().filter(|(_, looked)| looked.elapsed() >= pause).map(|(partition, _)| *partition));
        }
        let states: BTreeMap<_, _> = log.state().await?.into_iter().map(|state| (state.partition, state)).collect();
        let found: Vec<_> = run
            .checkpoints
            .iter()
            .filter_map(|(partition, checkpoint)| {
                Some((*partition, integrity::whole(states.get(partition)?, *checkpoint).err()?))
            })
            .collect();
        for (partition, mismatch) in found {
            self.halt(run, partition, &mismatch).await?;
        }
        if due.is_empty() {
            return Ok(());
        }
        let halts = checkpoint::halts(&self.environment.database, &due).await?;
        for (partition, checkpoint) in checkpoint::load(&self.environment.database, &due).await? {
            let Some(state) = states.get(&partition) else { continue };
            let halt = halts.get(&partition);
            if let Err(mismatch) = self.verify(state, checkpoint, halt).await? {
                self.halt(run, partition, &mismatch).await?;
                continue;
            }
            if let Some(halt) = halt {
                checkpoint::resume(&self.environment.database, partition).await?;
                tracing::info!(partition = %partition, was = halt.reason, "partition goes on");
            }
            run.halted.remove(&partition);
            run.waiting.remove(&partition);
            self.metrics.halted(partition.0, false);
            self.read(run, partition, checkpoint).await?;
        }
        run.publish_owned();
        Ok(())
    }

    /// Reads a partition on from its checkpoint.
    async fn read(&self, run: &mut Run, partition: Partition, checkpoint: Checkpoint) -> Result<(), Broken> {
        let ended = Err(ConsumeError::Stopped(format!("the reading of partition {partition} ended")));
        let ended = futures::stream::once(std::future::ready(ended));
        let stop = CancellationToken::new();
        let reader = self.environment.log.read_after(partition, checkpoint.stream_sequence).await?.chain(ended);
        run.readers.push(reader.take_until(stop.clone().cancelled_owned()).boxed());
        run.stops.insert(partition, stop);
        run.checkpoints.insert(partition, checkpoint);
        Ok(())
    }

    /// Whether a partition may be projected on: its stream is whole, its last projected events are those that were projected, and what
    /// was found wrong before is right again.
    async fn verify(
        &self,
        state: &PartitionState,
        checkpoint: Checkpoint,
        halt: Option<&Halt>,
    ) -> Result<Result<(), Mismatch>, Unchecked> {
        let Environment { log, database } = &self.environment;
        if let Err(mismatch) = integrity::whole(state, checkpoint) {
            return Ok(Err(mismatch));
        }
        if let Err(mismatch) = integrity::last(log, state.partition, checkpoint).await? {
            return Ok(Err(mismatch));
        }
        if let Err(mismatch) = integrity::tail(log, database, state.partition, checkpoint).await? {
            return Ok(Err(mismatch));
        }
        match halt {
            Some(halt) => integrity::around(log, database, state.partition, halt.stream_sequence, checkpoint).await,
            None => Ok(Ok(())),
        }
    }

    /// Leaves a partition alone, loudly: its log and what was projected of it do not agree, and going on would build on that. The
    /// reason is put down where the query APIs look for it.
    async fn halt(&self, run: &mut Run, partition: Partition, mismatch: &Mismatch) -> Result<(), Broken> {
        let (stream_sequence, position) = (mismatch.stream_sequence(), mismatch.position());
        tracing::error!(partition = %partition, stream_sequence, position, reason = %mismatch, "partition halted");
        if run.halted.insert(partition, Instant::now()).is_none() {
            self.metrics.mismatch(partition.0);
        }
        run.waiting.remove(&partition);
        run.stop_reading(partition);
        checkpoint::halt(&self.environment.database, partition, &mismatch.halt()).await?;
        Ok(())
    }

    /// Leaves a partition alone until the key that its next event needs is there: what is left out now would be missing for ever.
    async fn wait_for_key(&self, run: &mut Run, next: &Received, error: &KeyError) -> Result<(), Broken> {
        let (partition, stream_sequence) = (next.partition, next.stream_sequence);
        tracing::warn!(partition = %partition, stream_sequence, reason = %error, "partition waits for a key");
        run.waiting.insert(partition, Instant::now());
        run.stop_reading(partition);
        // Whoever asks for readiness is told neither tenants nor what an event says.
        let reason = format!(
            "the event at {stream_sequence} cannot be opened, because its key is missing, damaged, or under another master key"
        );
        checkpoint::refused(&self.environment.database, &[partition], &reason).await?;
        Ok(())
    }

    /// Puts down why a batch could not be written, if the database still takes that: whoever sees the standstill learns why.
    async fn record_refusal(&self, broken: &Broken) {
        let (partitions, reason) = match broken {
            // The code and nothing else: a message may quote what a tenant wrote.
            Broken::Commit { partitions, source: sqlx::Error::Database(error) } => {
                (partitions, format!("the database refuses what is projected ({})", error.code().unwrap_or_default()))
            }
            Broken::Keys { partitions, source } => (partitions, format!("content cannot be opened: {source}")),
            _ => return,
        };
        if let Err(error) = checkpoint::refused(&self.environment.database, partitions, &reason).await {
            tracing::debug!(error = %error, "the refusal could not be put down");
        }
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

    /// Projects a batch; where one of its events needs a key that is missing, what comes before that and what is of other partitions.
    async fn project_what_opens(&self, run: &mut Run, messages: &[Received]) -> Result<(), Broken> {
        let mut parts = vec![messages];
        while let Some(part) = parts.pop() {
            let source = match self.project(run, part).await {
                Err(Broken::Keys { source, .. }) if !source.is_of_all() => source,
                projected => {
                    projected?;
                    continue;
                }
            };
            // What was numbered and not written is numbered again.
            run.heads.clear();
            if let [message] = part {
                self.wait_for_key(run, message, &source).await?;
            } else {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
        Ok(())
    }

    async fn project(&self, run: &mut Run, messages: &[Received]) -> Result<(), Broken> {
        let mut moves: BTreeMap<Partition, (Checkpoint, Checkpoint)> = BTreeMap::new();
        heads::load(&self.environment.database, self.environment.log.partitions(), &mut run.heads, messages).await?;
        // What was read of a partition before it was left alone is read again.
        let messages: Vec<_> = messages.iter().filter(|message| run.checkpoints.contains_key(&message.partition)).collect();
        let opened = content::open(self.environment.log.keys(), &messages).await.map_err(|source| Broken::Keys {
            partitions: messages.iter().map(|message| message.partition).collect::<BTreeSet<_>>().into_iter().collect(),
            source,
        })?;
        let mut events = Vec::with_capacity(messages.len());
        let mut halted: Vec<(Partition, Mismatch)> = Vec::new();
        for (message, opened) in messages.iter().copied().zip(&opened) {
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
        let committed = self.commit(&mut events, &moves).await;
        let parked = committed.map_err(|error| match error {
            projections::Error::Database(source) => Broken::Commit { partitions: moves.keys().copied().collect(), source },
            projections::Error::Keys(source) => Broken::Keys { partitions: moves.keys().copied().collect(), source },
        })?;
        run.last_commit = began.elapsed();
        crash::point("projector.committed");
        self.metrics.projected.inc_by(events.len() as u64);
        self.metrics.parked.inc_by(parked);
        heads::note_parked(&mut run.heads, &events, parked);
        run.checkpoints.extend(moves.into_iter().map(|(partition, (_, upto))| (partition, upto)));
        run.publish_owned();
        for (partition, mismatch) in &halted {
            self.halt(run, *partition, mismatch).await?;
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
        events: &mut [Numbered],
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
        let mut by_tenant: HashMap<_, Vec<_>> = HashMap::new();
        for event in events {
            by_tenant.entry(event.tenant_id).or_default().push(&event.row);
        }
        for (tenant, rows) in by_tenant {
            let Some((newest, before)) = rows.split_last() else { continue };
            let projected = Projected {
                tenant,
                position: newest.position,
                stream_sequence: newest.stream_sequence,
                open_calls: heads.get(&tenant).map(|head| head.open_calls),
                // A batch holds a tenant's events without a gap between them.
                before: before.iter().rev().take(Projected::MOST_BEFORE).map(|row| row.stream_sequence).collect(),
            };
            self.environment.log.announce_projected(projected).await;
        }
    }
}

impl Run {
    fn stop_reading(&mut self, partition: Partition) {
        self.checkpoints.remove(&partition);
        if let Some(stop) = self.stops.remove(&partition) {
            stop.cancel();
        }
        self.publish_owned();
    }

    fn publish_owned(&self) {
        let owned = self.checkpoints.iter().map(|(partition, checkpoint)| (*partition, checkpoint.stream_sequence)).collect();
        self.owned.send_replace(owned);
    }
}

impl fmt::Debug for Projector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector").field("options", &self.options).finish_non_exhaustive()
    }
}
