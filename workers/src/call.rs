//! One call: claim → run → record → acknowledge.
//!
//! Where the process may die, and what then happens: before the claim or the outcome is in the log, the message comes again and
//! the call is run again, as often as its contract allows; after the outcome is in the log, the message comes again and nothing
//! is run.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use toolgate_events::{
    CallError, CallSubject, DecodeError, Envelope, Lane, Partition, Status, ToolCall, ToolCallEvent, ToolCallRequested, mcp,
    tool_call::{self, Command},
    tools::{Contract, SideEffects},
};
use toolgate_store::{AppendError, Delivery, Expect, LoadError, Recorded, crash, fold};

use crate::{
    Environment,
    adapters::{self, Call, ToolError},
    metrics::Metrics,
    places::Places,
};

/// How long one append is tried before the worker looks around again.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);
/// The longest time between two signs of life.
const LONGEST_BEAT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What all calls of a worker share.
pub struct Context {
    pub environment: Environment,
    pub metrics: Metrics,
    pub name: String,
    pub ack_wait: Duration,
    pub shutdown: CancellationToken,
}

/// Why a delivery is left as it is. None of these is the call's own failure.
#[derive(Debug, thiserror::Error)]
enum Abandoned {
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
}

/// The call as far as this worker knows it.
struct Held {
    subject: CallSubject,
    call: ToolCall,
    last_sequence: u64,
    aggregate_sequence: u64,
    last_event: uuid::Uuid,
    trace_context: Option<toolgate_events::TraceContext>,
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
    let held = match read(delivery, context.environment.log.partitions()) {
        Ok(Some(held)) => held,
        Ok(None) => return Ok(()),
        Err(reason) => return park(context, lane, delivery, &reason).await,
    };
    // What has not begun when the worker is told to stop is better begun by another.
    let Some(_place) = context.shutdown.run_until_cancelled(places.take(held.subject.tenant_id)).await else {
        return Err(Abandoned::Shutdown);
    };
    if delivery.delivered > 1 {
        context.metrics.redelivered(lane.as_str());
        let recorded = context.environment.log.load(&held.subject).await?;
        if let Some((sequence, outcome)) = outcome_of(&recorded)? {
            announce(context, delivery, &held.subject, sequence, outcome).await;
            return Ok(());
        }
        return run(context, delivery, Held::of(held.subject, &recorded)?).await;
    }
    run(context, delivery, held).await
}

/// The request in a delivery, `None` for any other event, or why it cannot be understood.
fn read(delivery: &Delivery, partitions: u16) -> Result<Option<Held>, String> {
    let envelope = Envelope::decode(delivery.payload()).map_err(|error| error.to_string())?;
    let subject = CallSubject::parse(delivery.subject()).map_err(|error| error.to_string())?;
    if envelope.tenant_id != subject.tenant_id || envelope.aggregate_id != subject.call_id {
        return Err("the event names another tenant or call than its subject".to_owned());
    }
    if Partition::of(subject.tenant_id, partitions) != delivery.partition {
        // A copy: the call itself is where its tenant lives.
        return Err("the tenant lives in another partition".to_owned());
    }
    let event = envelope.event().map_err(|error| error.to_string())?;
    let Some(event @ ToolCallEvent::ToolCallRequested(_)) = event.into_tool_call() else {
        return Ok(None);
    };
    let mut call = ToolCall::default();
    call.evolve(event);
    Ok(Some(Held {
        subject,
        call,
        last_sequence: delivery.stream_sequence,
        aggregate_sequence: envelope.aggregate_sequence,
        last_event: envelope.event_id,
        trace_context: envelope.trace_context,
    }))
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

async fn run(context: &Context, delivery: &Delivery, mut held: Held) -> Result<(), Abandoned> {
    let Some(request) = held.call.request.clone() else { return Ok(()) };
    let contract = contract_of(context, &request).await?;
    let runnable = contract.zip(adapters::find(&request.tool));
    let Some((contract, adapter)) = runnable else {
        let error = problem("unknown-tool", "This release does not have the tool", "no worker of this lane can run it");
        return record(context, delivery, held, "unknown", Duration::ZERO, Err((1, error))).await;
    };
    let attempt = match claim(context, contract, delivery, &mut held).await? {
        Claim::Run(attempt) => attempt,
        Claim::Exhausted(attempt) => {
            let detail = "its attempts ended without an outcome; whether it took effect is not known";
            let error = problem("attempts-exhausted", "The call was tried as often as its contract allows", detail);
            return record(context, delivery, held, contract.name, Duration::ZERO, Err((attempt, error))).await;
        }
        Claim::Finished => return finished_elsewhere(context, delivery, &held.subject).await,
    };
    crash::point("worker.claimed");
    let began = Instant::now();
    let timeout = contract.timeout(request.options.timeout_ms);
    let cancelled = CancellationToken::new();
    let _cancels = cancelled.clone().drop_guard();
    let mut call = Call::new(held.subject.tenant_id, held.subject.call_id, &request, began + timeout, cancelled, contract);
    let answer = attempt_until_answered(context, adapter, &mut call, timeout).await?;
    crash::point("worker.effect");
    let outcome = match answer {
        Ok(result) => Ok((attempt, result)),
        Err(error) => Err((attempt, error)),
    };
    record(context, delivery, held, contract.name, began.elapsed(), outcome).await
}

/// The contract to run a call by. Whoever accepted the call may have heard of a discovered tool, or of its change, before us.
async fn contract_of(context: &Context, request: &ToolCallRequested) -> Result<Option<&'static Contract>, Abandoned> {
    let environment = &context.environment;
    let contract = environment.catalog.find(&request.tool);
    let is_as_decided = |contract: &&Contract| {
        contract.upstream.is_none() || contract.hash().is_ok_and(|hash| hash == request.authorization.contract_hash)
    };
    if !request.tool.starts_with(mcp::PREFIX) || contract.as_ref().is_some_and(is_as_decided) {
        return Ok(contract);
    }
    environment.discovered.refresh().await.map_err(|error| LoadError::Unavailable(error.to_string()))?;
    Ok(environment.catalog.find(&request.tool))
}

enum Claim {
    Run(u32),
    Exhausted(u32),
    Finished,
}

/// Only an effectful call pays for a durable claim, and any call that came again: how often a message was delivered says nothing
/// about how often it was run, since a worker may die with calls it never got to.
async fn claim(context: &Context, contract: &Contract, delivery: &Delivery, held: &mut Held) -> Result<Claim, Abandoned> {
    if contract.side_effects != SideEffects::Effectful && delivery.delivered == 1 {
        return Ok(Claim::Run(1));
    }
    loop {
        let worker = context.name.clone();
        let command = match held.call.status {
            // The broker gives a running call away only when its worker has been silent too long.
            Some(Status::Running) => {
                Command::Retry { worker, reason: "worker_lost".to_owned(), max_attempts: contract.retry.max_attempts }
            }
            _ => Command::Start { worker },
        };
        let event = match held.call.decide(command) {
            Ok(event) => event,
            Err(tool_call::Error::AttemptsExhausted { .. }) => return Ok(Claim::Exhausted(held.call.attempts)),
            Err(tool_call::Error::AlreadyFinished(_)) => return Ok(Claim::Finished),
            Err(_) => return Err(Abandoned::ClaimLost),
        };
        match held.append(context, event).await {
            Ok(_) => return Ok(Claim::Run(held.call.attempts)),
            Err(Abandoned::Append(AppendError::Conflict)) => {
                let status = held.call.status;
                held.reload(context).await?;
                // Somebody claimed between our reading and our writing: they run it.
                if held.call.status == Some(Status::Running) && status != Some(Status::Running) {
                    return Err(Abandoned::ClaimLost);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs the adapter until it answers or fails by its own fault. While toolgate's own services are away the call waits for them.
async fn attempt_until_answered(
    context: &Context,
    adapter: adapters::Adapter,
    call: &mut Call,
    timeout: Duration,
) -> Result<Result<Value, CallError>, Abandoned> {
    let mut pause = FIRST_PAUSE;
    loop {
        call.deadline = Instant::now() + timeout;
        match tokio::time::timeout(timeout, adapter(call, &context.environment)).await {
            Ok(Ok(result)) => return Ok(Ok(result)),
            Ok(Err(ToolError::Infrastructure(reason))) => {
                tracing::warn!(reason, call_id = %call.call_id, "a part of the service is away; the call waits for it");
                if context.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return Err(Abandoned::Shutdown);
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
            Ok(Err(error)) => {
                if let ToolError::Internal(reason) = &error {
                    tracing::error!(reason, call_id = %call.call_id, "an adapter failed by its own fault");
                }
                return Ok(Err(error.record()));
            }
            Err(_) => {
                let detail = format!("no answer within {} ms", timeout.as_millis());
                return Ok(Err(problem("timeout", "The tool did not answer in time", &detail)));
            }
        }
    }
}

type Outcome = Result<(u32, Value), (u32, CallError)>;

async fn record(
    context: &Context,
    delivery: &Delivery,
    mut held: Held,
    tool: &'static str,
    took: Duration,
    mut outcome: Outcome,
) -> Result<(), Abandoned> {
    // What the outside says may repeat a credential, and the log keeps it for ever.
    let redactor = &context.environment.redactor;
    match &mut outcome {
        Ok((_, result)) => redactor.redact_value(result),
        Err((_, error)) => error.detail = redactor.redact(&error.detail).into_owned(),
    }
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    loop {
        let worker = context.name.clone();
        let command = match outcome.clone() {
            Ok((attempt, result)) => Command::Succeed { attempt, worker, duration_ms, result },
            Err((attempt, error)) => Command::Fail { attempt, worker, duration_ms, error },
        };
        let event = match held.call.decide(command) {
            Ok(event) => event,
            Err(tool_call::Error::AlreadyFinished(_)) => return finished_elsewhere(context, delivery, &held.subject).await,
            Err(_) => return Err(Abandoned::ClaimLost),
        };
        match held.append(context, event).await {
            Ok(payload) => {
                crash::point("worker.recorded");
                context.metrics.outcome(tool, if outcome.is_ok() { "succeeded" } else { "failed" }, took);
                announce(context, delivery, &held.subject, held.last_sequence, payload).await;
                return Ok(());
            }
            Err(Abandoned::Append(AppendError::Conflict)) => held.reload_until_answered(context).await?,
            Err(Abandoned::Append(AppendError::TooLarge)) => {
                let attempt = outcome.as_ref().map_or_else(|(attempt, _)| *attempt, |(attempt, _)| *attempt);
                outcome = Err((attempt, problem("result-too-large", "The result is too large to record", "ask for less")));
            }
            Err(Abandoned::Append(error @ (AppendError::Unknown | AppendError::Full | AppendError::Refused(_)))) => {
                // The effect has happened: losing its record would run it again, so the worker holds on to it.
                tracing::warn!(error = %error, subject = %held.subject, "an outcome could not be recorded yet");
                if context.shutdown.run_until_cancelled(tokio::time::sleep(LAST_PAUSE)).await.is_none() {
                    return Err(Abandoned::Shutdown);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn finished_elsewhere(context: &Context, delivery: &Delivery, subject: &CallSubject) -> Result<(), Abandoned> {
    let recorded = context.environment.log.load(subject).await?;
    if let Some((sequence, outcome)) = outcome_of(&recorded)? {
        announce(context, delivery, subject, sequence, outcome).await;
    }
    Ok(())
}

async fn announce(context: &Context, delivery: &Delivery, subject: &CallSubject, sequence: u64, outcome: Bytes) {
    if let Some(reply_to) = delivery.reply_to() {
        context.environment.log.announce_outcome(&reply_to, subject.call_id, sequence, outcome).await;
    }
}

fn outcome_of(recorded: &[Recorded]) -> Result<Option<(u64, Bytes)>, Abandoned> {
    let Some(last) = recorded.last() else { return Ok(None) };
    if !last.envelope.event()?.into_tool_call().is_some_and(|event| event.is_outcome()) {
        return Ok(None);
    }
    Ok(Some((last.stream_sequence, last.envelope.encode()?.into())))
}

fn problem(kind: &str, title: &str, detail: &str) -> CallError {
    CallError { kind: format!("urn:toolgate:tool:{kind}"), title: title.to_owned(), detail: detail.to_owned() }
}

impl Held {
    fn of(subject: CallSubject, recorded: &[Recorded]) -> Result<Self, Abandoned> {
        let Some(last) = recorded.last() else {
            return Err(LoadError::Unavailable("a delivered call is not in the log yet".to_owned()).into());
        };
        Ok(Self {
            subject,
            call: fold(recorded)?,
            last_sequence: last.stream_sequence,
            aggregate_sequence: last.envelope.aggregate_sequence,
            last_event: last.envelope.event_id,
            trace_context: last.envelope.trace_context.clone(),
        })
    }

    async fn reload(&mut self, context: &Context) -> Result<(), Abandoned> {
        let recorded = context.environment.log.load(&self.subject).await?;
        *self = Self::of(self.subject.clone(), &recorded)?;
        Ok(())
    }

    /// After the effect: an answer that could not be recorded must not be lost to a log that cannot be read for a moment.
    async fn reload_until_answered(&mut self, context: &Context) -> Result<(), Abandoned> {
        while let Err(error) = self.reload(context).await {
            if !matches!(error, Abandoned::Load(LoadError::Unavailable(_))) {
                return Err(error);
            }
            tracing::warn!(error = %error, subject = %self.subject, "an outcome could not be recorded yet");
            if context.shutdown.run_until_cancelled(tokio::time::sleep(LAST_PAUSE)).await.is_none() {
                return Err(Abandoned::Shutdown);
            }
        }
        Ok(())
    }

    /// Appends what was decided and moves on with it; answers with the event's bytes.
    async fn append(&mut self, context: &Context, event: ToolCallEvent) -> Result<Bytes, Abandoned> {
        let environment = &context.environment;
        let stamp = environment.clock.stamp(context.name.clone(), Some(self.last_event), self.trace_context.clone());
        let (tenant, call) = (self.subject.tenant_id, self.subject.call_id);
        let envelope = Envelope::seal(&event, tenant, call, self.aggregate_sequence + 1, stamp)?;
        let expect = Expect(self.last_sequence);
        let sequence = environment.log.append(&self.subject, &envelope, expect, None, APPEND_PATIENCE).await?;
        self.call.evolve(event);
        self.last_sequence = sequence;
        self.aggregate_sequence += 1;
        self.last_event = envelope.event_id;
        Ok(envelope.encode()?.into())
    }
}
