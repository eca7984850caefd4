//! Signed statements about where each tenant's audit chain stands, put where the database's owner cannot change them.
//!
//! They are made from what the table holds, not from what this process remembers, and only where the newest row is what the log has,
//! and follows from the one before it and from what was signed last. Each place gets them by itself: one that is away is tried again in the next round,
//! and neither the others nor the projecting wait for it. A crash anywhere leaves a round half done, and the next one does the rest.

mod chain;
mod file;
mod metrics;
mod sink;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use prometheus_client::registry::Registry;
use sqlx::PgPool;
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use toolgate_events::{
    Partition, TenantId,
    audit::{AuditCheckpoint, SigningKey},
};
use toolgate_store::{ArtifactError, Clock, LoadError, Log, crash};

use self::{chain::Signed, metrics::Metrics};
use crate::ownership::{Ownership, SIGNS};

pub use chain::ChainBroken;
pub use file::CheckpointDir;
pub use sink::{CheckpointWebhook, Sink, SinkError};

/// Tenants that one place gets checkpoints of at once.
const CONCURRENCY: usize = 8;
/// A round may take this long, however short the interval.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// What audit checkpoints are made of and where they go.
pub struct AuditCheckpoints {
    database: PgPool,
    log: Log,
    clock: Clock,
    key: SigningKey,
    every: Duration,
    sinks: Vec<Sink>,
    metrics: Metrics,
}

/// Why a tenant's checkpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Broken(#[from] ChainBroken),
    #[error("the log: {0}")]
    Log(#[from] LoadError),
    #[error("the archive: {0}")]
    Archive(#[from] ArtifactError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What one place has got, by tenant.
type Written = HashMap<TenantId, Signed>;

impl AuditCheckpoints {
    /// `database` is the projector role's; `every` is the time between two rounds.
    pub fn new(database: PgPool, log: Log, key: SigningKey, every: Duration, sinks: Vec<Sink>, registry: &mut Registry) -> Self {
        Self { database, log, clock: Clock::system(), key, every, sinks, metrics: Metrics::register(registry) }
    }

    /// Signs and writes until `shutdown`, for the partitions that no other process signs for.
    pub async fn run(&self, shutdown: &CancellationToken) {
        if self.sinks.is_empty() {
            return;
        }
        let written: Vec<_> = self.sinks.iter().map(|_| Mutex::new(Written::new())).collect();
        let mut ownership = None;
        let mut rounds = interval(self.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(rounds.tick()).await.is_some() {
            let round = self.round(&mut ownership, &written);
            match shutdown.run_until_cancelled(round).await {
                Some(Ok(())) | None => {}
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "no audit checkpoints in this round");
                    // Its locks may be gone with its connection.
                    ownership = None;
                }
            }
        }
        if let Some(ownership) = ownership {
            ownership.release().await;
        }
    }

    /// Signs where the chain of a tenant, or of each, stands now, and writes it everywhere. Answers with the checkpoints, and with
    /// what failed, one by one.
    ///
    /// # Errors
    /// When the tenants cannot be listed.
    pub async fn sign_now(&self, only: Option<TenantId>) -> Result<Vec<Result<AuditCheckpoint, Error>>, sqlx::Error> {
        let tenants = match only {
            Some(tenant) => vec![tenant],
            None => self.heads(&[]).await?.into_keys().collect(),
        };
        let mut outcomes = Vec::new();
        for tenant in tenants {
            match self.sign_after(None, tenant).await {
                Ok(checkpoint) => {
                    let put = join_all(self.sinks.iter().map(|sink| sink.put(&checkpoint, &self.clock))).await;
                    outcomes.push(Ok(checkpoint));
                    outcomes.extend(put.into_iter().filter_map(Result::err).map(|error| Err(error.into())));
                }
                Err(error) => outcomes.push(Err(error)),
            }
        }
        Ok(outcomes)
    }

    async fn round(&self, ownership: &mut Option<Ownership>, written: &[Mutex<Written>]) -> Result<(), sqlx::Error> {
        let owned = match ownership {
            Some(owned) => owned,
            None => ownership.insert(Ownership::open(&self.database, SIGNS).await?),
        };
        owned.claim(self.log.all_partitions()).await?;
        let mut heads = self.heads(written).await?;
        heads.retain(|tenant, _| owned.has(Partition::of(*tenant, self.log.partitions())));
        let patience = self.every.max(LEAST_PATIENCE);
        let filling = self.sinks.iter().zip(written).map(async |(sink, written)| {
            let mut written = written.lock().await;
            match timeout(patience, self.fill(sink, &mut written, &heads)).await {
                Ok(true) => self.metrics.complete(sink.name(), self.clock.now().timestamp()),
                Ok(false) => {}
                Err(_) => {
                    tracing::warn!(sink = sink.name(), "the round of audit checkpoints took too long; the rest comes later")
                }
            }
        });
        join_all(filling).await;
        Ok(())
    }

    /// Where the chain of every tenant stands, 0 for one that something was signed for and that has no rows any more.
    async fn heads(&self, written: &[Mutex<Written>]) -> Result<BTreeMap<TenantId, u64>, sqlx::Error> {
        let mut heads: BTreeMap<_, _> = chain::heads(&self.database).await?.into_iter().collect();
        for written in written {
            for tenant in written.lock().await.keys() {
                heads.entry(*tenant).or_insert(0);
            }
        }
        for sink in &self.sinks {
            match sink.tenants().await {
                Ok(tenants) => tenants.into_iter().for_each(|tenant| {
                    heads.entry(tenant).or_insert(0);
                }),
                // What is away is told of where it is written to.
                Err(error) => tracing::debug!(sink = sink.name(), error = %error, "it cannot be told whose checkpoints are kept"),
            }
        }
        Ok(heads)
    }

    /// Gives one place what it has not got yet. True when nothing is left.
    async fn fill(&self, sink: &Sink, written: &mut Written, heads: &BTreeMap<TenantId, u64>) -> bool {
        let moved: Vec<_> = heads
            .iter()
            .map(|(tenant, position)| (*tenant, *position, written.get(tenant).cloned()))
            .filter(|(_, position, known)| known.as_ref().is_none_or(|known| known.position != *position))
            .collect();
        let mut writing = stream::iter(moved)
            .map(async |(tenant, _, known)| (tenant, self.write(sink, tenant, known).await))
            .buffer_unordered(CONCURRENCY);
        let mut is_complete = true;
        while let Some((tenant, outcome)) = writing.next().await {
            match outcome {
                Ok((signed, is_new)) => {
                    if is_new {
                        self.metrics.count(sink.name(), "written");
                    }
                    written.insert(tenant, signed);
                }
                Err(Error::Broken(broken)) => {
                    is_complete = false;
                    self.metrics.count(sink.name(), "refused");
                    tracing::error!(tenant = %tenant, reason = %broken, "the audit trail does not continue what was signed: nothing is signed");
                }
                Err(error) => {
                    is_complete = false;
                    self.metrics.count(sink.name(), "failed");
                    tracing::warn!(sink = sink.name(), error = %error, "an audit checkpoint was not written; it is tried again");
                }
            }
        }
        is_complete
    }

    /// One checkpoint for one place, unless it has it: what it got before a restart, the place itself may know.
    async fn write(&self, sink: &Sink, tenant: TenantId, known: Option<Signed>) -> Result<(Signed, bool), Error> {
        let known = match known {
            Some(known) => Some(known),
            None => sink.last(tenant).await?,
        };
        let checkpoint = self.sign_after(known.clone(), tenant).await?;
        let signed = Signed { position: checkpoint.position, hash: checkpoint.hash.clone() };
        if known.as_ref() == Some(&signed) {
            return Ok((signed, false));
        }
        sink.put(&checkpoint, &self.clock).await?;
        crash::point("projector.checkpointed");
        Ok((signed, true))
    }

    /// Signs what continues what was signed last: for this place, or else for any that can say.
    async fn sign_after(&self, known: Option<Signed>, tenant: TenantId) -> Result<AuditCheckpoint, Error> {
        let mut before = known;
        for sink in &self.sinks {
            if before.is_none() {
                // One that is away must not keep the others from getting theirs.
                before = sink.last(tenant).await.unwrap_or_default();
            }
        }
        let head = chain::head(&self.database, &self.log, tenant, before.as_ref()).await?;
        Ok(AuditCheckpoint::sign(head, self.clock.now(), &self.key))
    }
}

impl fmt::Debug for AuditCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditCheckpoints")
            .field("key", &self.key)
            .field("every", &self.every)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}
