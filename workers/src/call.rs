//! One call: claim → run → record → acknowledge.
//!
//! Where the process may die, and what then happens: before the claim or the outcome is in the log, the message comes again and
//! the call is run again, as often as its contract allows; after the claim of an effectful call, the message comes again and the
//! call ends as one whose outcome nobody knows; after the outcome is in the log, the message comes again and nothing is run.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use toolgate_events::{
    CallError, CallSubject, DecodeError, Envelope, Lane, Partition, Reuse, ToolCallEvent, ToolCallRequested, mcp,
    tools::{Contract, SideEffects},
};
use toolgate_store::{AppendError, Delivery, KeyError, LoadError, crash};

use crate::{
    Environment,
    adapters::{self, Adapter, Call, problem},
    answers::Answers,
    attempt::{Attempts, Ended, unknown},
    breaker::{self, Breakers},
    cache::{Flight, Joined, Kept, Key},
    claim::{Claim, claim},
    held::{Held, outcome_of},
    metrics::Metrics,
    places::Places,
    record::{Outcome, OutcomeKind, announce, finished_elsewhere, record},
};

/// How long one append is tried before the worker looks around again.
pub const APPEND_PATIENCE: Duration = Duration::from_secs(5);
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub const LAST_PAUSE: Duration = Duration::from_secs(2);
/// The longest time between two signs of life.
const LONGEST_BEAT: Duration = Duration::from_secs(1);
/// How often a call under way is looked for an outcome that is not its worker's own, such as its cancellation.
const LOOK: Duration = Duration::from_secs(1);

/// What all calls of a worker share.
pub struct Context {
    pub environment: Environment,
    pub metrics: Metrics,
    pub breakers: Breakers,
    pub answers: Answers,
    pub name: String,
    pub ack_wait: Duration,
    pub shutdown: CancellationToken,
}

/// Why a delivery is left as it is. None of these is the call's own failure.
#[derive(Debug, thiserror::Error)]
pub enum Abandoned {
    /// Another worker has the call; its message is its own to acknowledge.
    #[error("another worker has taken the call over")]
    ClaimLost,
    #[error("the worker is shutting down")]
    Shutdown,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
    #[error("its content can neither be opened nor sealed: {0}")]
    Keys(#[from] KeyError),
}

/// Handles one delivery, keeping it alive meanwhile. Whatever happens, the message is acknowledged or comes again.
pub async fn handle(context: &Context, lane: &Lane, places: &Places, delivery: Delivery) {
    // The first beat is a period away: one that is due at once would still cost the call the timer's next millisecond or two.
    // The broker's patience may be another worker's setting, so a short one is kept in any case.
    let period = (context.ack_wait / 3).min(LONGEST_BEAT);
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    let mut work = std::pin::pin!(work(context, lane, places, &delivery));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = heartbeat.tick() => delivery.in_progress().await,
        }
    };
    match done {
        Ok(()) => delivery.ack().await,
        Err(Abandoned::ClaimLost) => {}
        Err(Abandoned::Shutdown) => delivery.retry_after(Duration::ZERO).await,
        Err(reason) => {
            tracing::warn!(reason = %reason, subject = delivery.subject(), "call left for a later delivery");
            delivery.retry_after(Duration::from_secs(1)).await;
        }
    }
}

async fn work(context: &Context, lane: &Lane, places: &Places, delivery: &Delivery) -> Result<(), Abandoned> {
    let mut held = match read(context, delivery).await {
        Ok(Some(held)) => held,
        Ok(None) => return Ok(()),
        Err(Unread::Parked(reason)) => return park(context, lane, delivery, &reason).await,
        Err(Unread::Keys(error)) => return Err(error.into()),
    };
    if delivery.delivered > 1 {
        context.metrics.redelivered(lane.as_str());
        let recorded = context.environment.log.load(&held.subject).await?;
        if let Some((sequence, outcome)) = outcome_of(&recorded)? {
            announce(context, delivery, &held.subject, sequence, outcome).await;
            return Ok(());
        }
        held = Held::of(held.subject, &recorded)?;
    }
    let Some(request) = held.call.request.clone() else { return Ok(()) };
    if request.erased {
        let outcome = Outcome::failed(held.call.attempts.max(1), Duration::ZERO, erased());
        return record(context, delivery, &mut held, "unknown", outcome).await.map(drop);
    }
    let error = match contract_of(context, &request).await? {
        Some(contract) if !is_as_decided(context, &request, contract) => changed(),
        contract => match contract.and_then(|contract| Job::of(context, delivery, &held.subject, &request, contract)) {
            Some(job) => return job.work(places, held).await,
            None => problem("unknown-tool", "This release does not have the tool", "no worker of this lane can run it"),
        },
    };
    // Another worker may have begun it under the contract of that time; only what is effectful says so in the log.
    let may_have_begun = request.tool.starts_with(mcp::PREFIX) && delivery.delivered > 1;
    let error = if may_have_begun { unknown("a worker that had it was lost, and its contract is gone").error } else { error };
    let outcome = Outcome::failed(held.call.attempts.max(1), Duration::ZERO, error);
    record(context, delivery, &mut held, "unknown", outcome).await.map(drop)
}

/// Why a delivery was not read.
enum Unread {
    /// Nobody can: it is set aside.
    Parked(String),
    /// Not without its key, which may be there later.
    Keys(KeyError),
}

impl From<String> for Unread {
    fn from(reason: String) -> Self {
        Self::Parked(reason)
    }
}

impl From<KeyError> for Unread {
    fn from(error: KeyError) -> Self {
        match error {
            // What was sealed is broken. Of the key store that is another error, and it may be mended.
            KeyError::Broken(reason) => Self::Parked(reason),
            error => Self::Keys(error),
        }
    }
}

/// The request in a delivery, opened; `None` for any other event.
async fn read(context: &Context, delivery: &Delivery) -> Result<Option<Held>, Unread> {
    let log = &context.environment.log;
    let envelope = Envelope::decode(delivery.payload()).map_err(|error| error.to_string())?;
    let subject = CallSubject::parse(delivery.subject()).map_err(|error| error.to_string())?;
    if envelope.tenant_id != subject.tenant_id || envelope.aggregate_id != subject.call_id {
        return Err("the event names another tenant or call than its subject".to_owned().into());
    }
    if Partition::of(subject.tenant_id, log.partitions()) != delivery.partition {
        // A copy: the call itself is where its tenant lives.
        return Err("the tenant lives in another partition".to_owned().into());
    }
    let envelope = log.keys().open(envelope).await?;
    let event = envelope.event().map_err(|error| error.to_string())?;
    let Some(event @ ToolCallEvent::ToolCallRequested(_)) = event.into_tool_call() else {
        return Ok(None);
    };
    Ok(Some(Held::requested(subject, delivery, envelope, event)))
}

/// A message nobody can read is set aside and acknowledged, so that the lane goes on.
async fn park(context: &Context, lane: &Lane, delivery: &Delivery, reason: &str) -> Result<(), Abandoned> {
    tracing::error!(reason, subject = delivery.subject(), sequence = delivery.stream_sequence, "message parked");
    context.metrics.parked(lane.as_str());
    let log = &context.environment.log;
    log.park(delivery.partition, delivery.stream_sequence, delivery.subject(), reason)
        .await
        .map_err(|error| LoadError::Unavailable(error.to_string()).into())
}

/// The contract to run a call by. Whoever accepted the call may have heard of a discovered tool, or of its change, before us.
async fn contract_of(context: &Context, request: &ToolCallRequested) -> Result<Option<&'static Contract>, Abandoned> {
    let environment = &context.environment;
    let contract = environment.catalog.find(&request.tool);
    let is_known = contract.is_some_and(|contract| is_as_decided(context, request, contract));
    if !request.tool.starts_with(mcp::PREFIX) || is_known {
        return Ok(contract);
    }
    environment.discovered.refresh().await.map_err(|error| LoadError::Unavailable(error.to_string()))?;
    Ok(environment.catalog.find(&request.tool))
}

/// Whether a call was accepted by this contract: its arguments were checked against that one, and what they may do follows from it.
/// A contract of this release stays compatible with those before it, one of a server need not.
fn is_as_decided(context: &Context, request: &ToolCallRequested, contract: &'static Contract) -> bool {
    contract.upstream.is_none() || context.answers.contract_hash(contract) == request.authorization.contract_hash
}

fn erased() -> CallError {
    let detail = "its arguments were erased before it was run, and nothing was sent";
    problem("content-erased", "What the call was about has been erased", detail)
}

fn changed() -> CallError {
    let detail = "nothing was sent; look at the contract, and ask again under another key";
    problem("contract-changed", "The tool's contract has changed since the call was accepted", detail)
}

/// A call that can be run, and what its contract and its arguments say about running it.
struct Job<'a> {
    context: &'a Context,
    delivery: &'a Delivery,
    request: &'a ToolCallRequested,
    subject: CallSubject,
    contract: &'static Contract,
    adapter: Adapter,
    upstream: Option<String>,
    side_effects: SideEffects,
    reusable: Option<Reusable>,
}

/// What an earlier result must be to answer the call.
struct Reusable {
    key: Key,
    /// How old at the most.
    fresh: Duration,
    /// How old at the most when the other side is down.
    stale: Duration,
}

/// An outcome, and what has to be told to those who wait for the same.
struct Resolved {
    outcome: Outcome,
    flight: Option<Flight>,
}

impl<'a> Job<'a> {
    /// `None` when this release cannot run it.
    fn of(
        context: &'a Context,
        delivery: &'a Delivery,
        subject: &CallSubject,
        request: &'a ToolCallRequested,
        contract: &'static Contract,
    ) -> Option<Self> {
        let adapter = adapters::find(&request.tool)?;
        let particulars = adapters::particulars(&request.tool, &request.arguments);
        let side_effects = particulars.side_effects.unwrap_or(contract.side_effects);
        // What is about somebody must not come back in another's call after it was erased.
        let may_be_kept = side_effects == SideEffects::ReadOnly && request.data_subject.is_none();
        let cache = contract.cache.filter(|_| may_be_kept);
        let reusable = cache.map(|cache| {
            let (hash, asked) = (context.answers.contract_hash(contract), request.options.freshness_seconds);
            let arguments = Value::Object(request.arguments.clone());
            let key = Key::of(contract.name, subject.tenant_id, &hash, &arguments, request.options.locale.as_deref());
            Reusable { key, fresh: cache.freshness(asked), stale: cache.staleness(asked) }
        });
        let upstream = particulars.upstream.or_else(|| contract.upstream.as_ref().map(|upstream| upstream.server.clone()));
        let subject = subject.clone();
        Some(Self { context, delivery, request, subject, contract, adapter, upstream, side_effects, reusable })
    }

    async fn work(self, places: &Places, mut held: Held) -> Result<(), Abandoned> {
        // What is known already needs no place: it is there even while everything else waits for a host that does not answer.
        if let Some(outcome) = self.reuse(&held, |reusable| reusable.fresh) {
            return record(self.context, self.delivery, &mut held, self.contract.name, outcome).await.map(drop);
        }
        // What has not begun when the worker is told to stop is better begun by another.
        let place = places.take(self.subject.tenant_id, self.upstream.as_deref());
        let Some(_place) = self.context.shutdown.run_until_cancelled(place).await else {
            return Err(Abandoned::Shutdown);
        };
        let resolved = tokio::select! {
            biased;
            resolved = self.resolve(&mut held) => resolved?,
            () = self.overtaken() => {
                // Whoever has the place may go on; the adapter's own future is dropped, and its token told.
                let side_effects = self.side_effects;
                tracing::warn!(tool = self.contract.name, call_id = %self.subject.call_id, ?side_effects,
                    "an attempt was given up: its call has an outcome from elsewhere");
                None
            }
        };
        let Some(Resolved { outcome, flight }) = resolved else {
            return finished_elsewhere(self.context, self.delivery, &self.subject).await;
        };
        let answered = Instant::now();
        let recorded = record(self.context, self.delivery, &mut held, self.contract.name, outcome).await?;
        if let (Some(flight), Some(OutcomeKind::Answered(result))) = (flight, recorded)
            && adapters::is_reusable(self.contract.name, &result)
        {
            flight.land(Kept { call_id: self.subject.call_id, made: answered, json: serde_json::to_vec(&result)?.into() });
        }
        Ok(())
    }

    /// Makes an outcome; `None` when the call has one already.
    async fn resolve(&self, held: &mut Held) -> Result<Option<Resolved>, Abandoned> {
        let began = Instant::now();
        let timeout = self.contract.timeout(self.request.options.timeout_ms);
        let end = began + self.contract.total_time(self.request.options.timeout_ms);
        let flight = match self.join(held, timeout).await {
            Ok(flight) => flight,
            Err(outcome) => return Ok(Some(Resolved { outcome, flight: None })),
        };
        let attempt = match claim(self.context, self.contract, self.side_effects, self.delivery, held).await? {
            Claim::Run { attempt } => attempt,
            Claim::Exhausted { attempt } => {
                let detail = "its attempts ended without an outcome; whether it took effect is not known";
                let error = problem("attempts-exhausted", "The call was tried as often as its contract allows", detail);
                return Ok(Some(Resolved { outcome: Outcome::failed(attempt, Duration::ZERO, error), flight: None }));
            }
            Claim::Unknown { attempt } => {
                let error = unknown("the worker that ran it was lost").error;
                return Ok(Some(Resolved { outcome: Outcome::failed(attempt, Duration::ZERO, error), flight: None }));
            }
            Claim::Finished => return Ok(None),
        };
        crash::point("worker.claimed");
        let began = Instant::now();
        let cancelled = CancellationToken::new();
        let _cancels = cancelled.clone().drop_guard();
        let mut call =
            Call::new(self.subject.tenant_id, self.subject.call_id, self.request, began + timeout, cancelled, self.contract);
        let breaker = breaker::Key { tool: self.contract.name, tenant: self.subject.tenant_id, upstream: self.upstream.clone() };
        let (context, contract, adapter, side_effects) = (self.context, self.contract, self.adapter, self.side_effects);
        let attempts = Attempts { context, contract, adapter, breaker, side_effects, timeout, end };
        let Ended { attempt, answer } = attempts.run(held, &mut call, attempt).await?;
        crash::point("worker.effect");
        let took = began.elapsed();
        let outcome = match answer {
            Ok(result) => Outcome { attempt, took, kind: OutcomeKind::Answered(result) },
            Err(failure) => {
                let older = if failure.is_upstream_down { self.reuse(held, |reusable| reusable.stale) } else { None };
                older.map_or_else(|| Outcome::failed(attempt, took, failure.error), |older| Outcome { attempt, took, ..older })
            }
        };
        Ok(Some(Resolved { outcome, flight }))
    }

    /// An earlier result as the outcome, when there is one that is not too old.
    fn reuse(&self, held: &Held, oldest: impl Fn(&Reusable) -> Duration) -> Option<Outcome> {
        let reusable = self.reusable.as_ref()?;
        let oldest = oldest(reusable);
        if oldest.is_zero() {
            return None;
        }
        let now = Instant::now();
        let kept = self.context.environment.results.find(&reusable.key, oldest, now)?;
        self.reused(held, &kept, now)
    }

    fn reused(&self, held: &Held, kept: &Kept, now: Instant) -> Option<Outcome> {
        let result = serde_json::from_slice(&kept.json).ok()?;
        let age = kept.age(now);
        let reuse = Reuse {
            call_id: kept.call_id,
            age_seconds: u32::try_from(age.as_secs()).unwrap_or(u32::MAX),
            stale: self.reusable.as_ref().is_some_and(|reusable| age > reusable.fresh),
        };
        crash::point("worker.reused");
        Some(Outcome { attempt: held.call.attempts.max(1), took: Duration::ZERO, kind: OutcomeKind::Reused(result, reuse) })
    }

    /// Of several calls that ask the same at the same time one asks, and the others wait for it as long as for an attempt of their
    /// own. An `Err` is the outcome that the other one brought.
    async fn join(&self, held: &Held, timeout: Duration) -> Result<Option<Flight>, Outcome> {
        let Some(reusable) = &self.reusable else { return Ok(None) };
        let results = &self.context.environment.results;
        let following = match results.join(&reusable.key, !reusable.fresh.is_zero()) {
            // One that asked the same may have ended since this call looked: while it waited for a place, or in that very moment.
            Joined::Lead(flight) => return self.reuse(held, |reusable| reusable.fresh).map_or(Ok(Some(flight)), Err),
            Joined::Follow(following) => following,
        };
        let landed = tokio::time::timeout(timeout, following.result()).await.ok().flatten();
        match landed.and_then(|kept| self.reused(held, &kept, Instant::now())) {
            Some(outcome) => Err(outcome),
            None => match results.join(&reusable.key, false) {
                Joined::Lead(flight) => Ok(Some(flight)),
                Joined::Follow(_) => Ok(None),
            },
        }
    }

    /// Ends when the call has an outcome that is not this worker's. A log that does not answer has none.
    async fn overtaken(&self) {
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let recorded = self.context.environment.log.load(&self.subject).await;
            if recorded.is_ok_and(|recorded| matches!(outcome_of(&recorded), Ok(Some(_)))) {
                return;
            }
        }
    }
}
