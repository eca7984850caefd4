//! Whether the read side keeps up: a monitor that compares the log with the checkpoints, once a second.

mod lag;
mod metrics;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use chrono::SecondsFormat;
use prometheus_client::registry::Registry;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use toolgate_events::{Partition, tools};
use toolgate_security::{ProjectionHalt, ReadPool};
use toolgate_store::Log;

use self::{
    lag::{Lag, Measure},
    metrics::{LaneLabels, Metrics, PartitionLabels, ProjectionLabels, gauge},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// Lanes cost one request a partition each, so they are asked less often.
const TICKS_PER_LANE_CHECK: u64 = 5;
/// How long the broker or the database may take to answer before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(2);
/// The projection that is missing while no projector has ever written a checkpoint.
const NONE_YET: &str = "none";

/// The monitor's verdict. Clones share one monitor, which ends with the last of them.
#[derive(Clone)]
pub struct Health {
    log: Log,
    verdict: watch::Receiver<Verdict>,
    _monitor: Arc<AbortOnDropHandle<()>>,
}

type Verdict = Result<(), String>;

struct Monitor {
    log: Log,
    pool: ReadPool,
    stalled_after: Duration,
    metrics: Metrics,
    lags: HashMap<(String, u16), Lag>,
}

/// A partition that is not projected on.
#[derive(Clone, Debug)]
struct Standstill {
    partition: Partition,
    still: Duration,
    events: u64,
    halt: Option<ProjectionHalt>,
}

impl Standstill {
    fn is_final(&self) -> bool {
        self.halt.as_ref().is_some_and(|halt| halt.is_final)
    }

    /// What somebody has to repair is told at once; what may pass by itself is given some time.
    fn is_worth_telling(&self, stalled_after: Duration) -> bool {
        self.is_final() || self.still > stalled_after
    }

    fn yields_to(&self, other: &Self) -> bool {
        (self.is_final(), self.still) < (other.is_final(), other.still)
    }
}

impl Health {
    pub(crate) fn watch(log: Log, pool: ReadPool, stalled_after: Duration, registry: &mut Registry) -> Self {
        let (sender, verdict) = watch::channel(Err("the first measurement is still under way".to_owned()));
        let monitor =
            Monitor { log: log.clone(), pool, stalled_after, metrics: Metrics::register(registry), lags: HashMap::new() };
        let task = tokio::spawn(monitor.run(sender));
        Self { log, verdict, _monitor: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// Whether answers are worth asking for, as of the last second.
    ///
    /// # Errors
    /// The reason, fit for an operator's eyes: it names parts and partitions, never tenants.
    pub async fn readiness(&self) -> Result<(), String> {
        if !self.log.is_connected() {
            return Err("NATS cannot be reached".to_owned());
        }
        self.verdict.borrow().clone()
    }
}

impl Monitor {
    async fn run(mut self, verdict: watch::Sender<Verdict>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0.. {
            ticks.tick().await;
            let measured = self.measure().await;
            // Only the change is news: the reason counts the seconds.
            let was_ready = verdict.borrow().is_ok();
            match &measured {
                Err(reason) if was_ready => tracing::warn!(reason, "the read side is no longer ready"),
                Ok(()) if !was_ready => tracing::info!("the read side is ready"),
                _ => {}
            }
            verdict.send_modify(|verdict| *verdict = measured);
            if tick % TICKS_PER_LANE_CHECK == 0 {
                self.measure_lanes().await;
            }
        }
    }

    async fn measure(&mut self) -> Verdict {
        let outcome = self.measure_lags().await;
        if outcome.is_err() {
            // Time in which nothing could be seen is not time in which something stood still.
            self.lags.clear();
        }
        match outcome? {
            None => Ok(()),
            Some(standstill) => Err(self.explain(standstill).await),
        }
    }

    /// In an operator's words: which partition, how far behind, since when and why.
    async fn explain(&self, standstill: Standstill) -> String {
        let Standstill { partition, still, events, halt } = standstill;
        if let Some(halt) = halt.as_ref().filter(|halt| halt.is_final) {
            let since = halt.since.to_rfc3339_opts(SecondsFormat::Secs, true);
            return format!(
                "the projection of partition {partition} is halted since {since}, {events} events behind: {}",
                halt.reason
            );
        }
        let reason = match halt {
            Some(halt) => halt.reason,
            None => match answered(self.pool.is_projected_by_somebody(i32::from(partition.0))).await {
                Some(false) => "no projector owns it".to_owned(),
                Some(true) => "its projector does not get on; its log says why".to_owned(),
                None => "the database does not answer".to_owned(),
            },
        };
        format!(
            "the projection of partition {partition} has stood still for {} s, {events} events behind: {reason}",
            still.as_secs()
        )
    }

    /// Measures every projection, and tells the partition that is halted, or has stood still longest if one has for too long.
    async fn measure_lags(&mut self) -> Result<Option<Standstill>, String> {
        // In this order, so that a checkpoint beyond the log can only mean that the log has lost events.
        let checkpoints = answered(self.pool.projection_states()).await.ok_or("the database does not answer")?;
        let states = answered(self.log.state()).await.ok_or("NATS does not answer")?;
        self.metrics.log_bytes.set(gauge(states.iter().map(|state| state.bytes).sum()));
        self.metrics.log_messages.set(gauge(states.iter().map(|state| state.messages).sum()));

        let mut projections: BTreeSet<_> = checkpoints.iter().map(|state| state.projection.as_str()).collect();
        if projections.is_empty() {
            projections.insert(NONE_YET);
        } else {
            self.forget_none_yet();
        }
        let projected: HashMap<_, _> =
            checkpoints.iter().map(|state| ((state.projection.as_str(), state.partition), state)).collect();
        let now = Instant::now();
        let mut worst: Option<Standstill> = None;
        for projection in projections {
            let mut oldest = Duration::ZERO;
            for state in &states {
                let partition = state.partition;
                let known = projected.get(&(projection, i32::from(partition.0)));
                let checkpoint = known.map_or(0, |known| known.stream_sequence);
                let halt = known.and_then(|known| known.halt.clone());
                if checkpoint > state.last_sequence && halt.is_none() {
                    return Err(format!("the log of partition {partition} ends before what was projected from it"));
                }
                let lag = self.lags.entry((projection.to_owned(), partition.0)).or_insert_with(|| Lag::new(now));
                let Measure { events, age, still } = lag.observe(now, state.last_sequence, checkpoint);
                let labels = PartitionLabels { projection: projection.to_owned(), partition: partition.to_string() };
                self.metrics.lag_events.get_or_create(&labels).set(gauge(events));
                oldest = oldest.max(age);
                let standstill = Standstill { partition, still, events, halt };
                if standstill.is_worth_telling(self.stalled_after)
                    && worst.as_ref().is_none_or(|worst| worst.yields_to(&standstill))
                {
                    worst = Some(standstill);
                }
            }
            let labels = ProjectionLabels { projection: projection.to_owned() };
            self.metrics.lag_seconds.get_or_create(&labels).set(oldest.as_secs_f64());
        }
        Ok(worst)
    }

    fn forget_none_yet(&mut self) {
        let partitions: Vec<_> = self.lags.keys().filter(|(projection, _)| projection == NONE_YET).cloned().collect();
        for (projection, partition) in partitions {
            self.metrics
                .lag_events
                .remove(&PartitionLabels { projection: projection.clone(), partition: Partition(partition).to_string() });
            self.metrics.lag_seconds.remove(&ProjectionLabels { projection: projection.clone() });
            self.lags.remove(&(projection, partition));
        }
    }

    async fn measure_lanes(&self) {
        for lane in tools::lanes() {
            let Ok(state) = timeout(PATIENCE, self.log.lane_state(&lane)).await else { continue };
            self.metrics.lane_pending.get_or_create(&LaneLabels { lane: lane.to_string() }).set(gauge(state.pending));
        }
    }
}

/// The answer, if it comes in time.
async fn answered<T, E: fmt::Display>(question: impl Future<Output = Result<T, E>>) -> Option<T> {
    match timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "a measurement failed");
            None
        }
        Err(_elapsed) => None,
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("verdict", &self.verdict.borrow()).finish_non_exhaustive()
    }
}
