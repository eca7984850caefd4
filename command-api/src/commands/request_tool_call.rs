use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use toolgate_events::{
    CallId, CallSubject, Envelope, Event, TenantId, ToolCall, ToolCallRequested, TraceContext, tool_call::Command,
};
use toolgate_store::{AppendError, Expect, ReplyTo, WaitForReply};
use tracing::Instrument;

use super::{APPEND_PATIENCE, CallState, Error};
use crate::{State, open_calls::Room};

/// First look into the log while waiting for an announcement that may have been lost; the pause doubles up to the last.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(4);
/// How long an answer is held back for its projection.
const PROJECTION_PATIENCE: Duration = Duration::from_secs(2);
/// How a fingerprint begins that nobody can make without the key.
const KEYED: &str = "hmac:";

/// An authorised, validated request.
#[derive(Debug)]
pub struct RequestToolCall {
    pub tenant_id: TenantId,
    pub call_id: CallId,
    pub request: Box<ToolCallRequested>,
    /// What the request was known again by before fingerprints were keyed.
    pub plain_fingerprint: String,
    pub trace_context: TraceContext,
    /// How long the caller waits for the outcome.
    pub wait: Option<Duration>,
    /// Whether the same request may have been made before.
    pub may_exist: bool,
    /// Whether the outcome changes what the tenant reads: then an answer that waited is also projected.
    pub changes_read_models: bool,
}

/// The call, and whether it was there before.
#[derive(Debug)]
pub struct Accepted {
    pub state: CallState,
    pub replayed: bool,
    /// A position of the tenant that holds the outcome, where the answer waited for the projection.
    pub position: Option<u64>,
}

/// Appends the request, or finds the call it repeats; then waits for the outcome as long as the caller does.
///
/// # Errors
/// [`Error`]; after `AppendError::Unknown` the call may exist, and the same request again finds it.
pub async fn handle(state: &State, command: RequestToolCall) -> Result<Accepted, Error> {
    let deadline = command.wait.map(|wait| Instant::now() + wait);
    let RequestToolCall { tenant_id, call_id, request, plain_fingerprint, trace_context, changes_read_models, may_exist, .. } =
        command;
    let subject = CallSubject::new(state.log.partitions(), tenant_id, request.lane.clone(), call_id);
    // Taken before the append: the outcome may be announced before the acknowledgement is back.
    let waiting = deadline.map(|deadline| (deadline, state.replies.wait_for(call_id)));
    let following = waiting.as_ref().filter(|_| changes_read_models).map(|_| state.announcements.follow(tenant_id));

    let mut accepted = match state.open_calls.take(tenant_id, Instant::now()) {
        Some(room) => append(state, &subject, request, &plain_fingerprint, trace_context, waiting.is_some(), room).await?,
        // There is no room for a call, but a call that is there is not refused to whoever asks for it again.
        None if may_exist => existing(state, &subject, request, &plain_fingerprint).await?.ok_or(full(state))?,
        None => return Err(full(state)),
    };
    if let Some((deadline, waiting)) = waiting
        && !accepted.state.is_final()
    {
        let sequence = wait_for_outcome(state, &subject, waiting, deadline, &mut accepted.state).await;
        if let (Some(sequence), Some(mut following)) = (sequence, following) {
            // A caller who waited for an upsert expects the next search to find it. The outcome stands either way.
            let patience = deadline.min(Instant::now() + PROJECTION_PATIENCE);
            accepted.position = timeout_at(patience, following.reached(sequence)).await.ok();
        }
    }
    Ok(accepted)
}

async fn append(
    state: &State,
    subject: &CallSubject,
    request: Box<ToolCallRequested>,
    plain_fingerprint: &str,
    trace_context: TraceContext,
    waits: bool,
    room: Room,
) -> Result<Accepted, Error> {
    let stamp = state.clock.stamp(request.authorization.principal.clone(), None, Some(trace_context));
    let requested_at = stamp.occurred_at;
    let mut call = ToolCall::default();
    let event = call.decide(Command::Request(request.clone()))?;
    let envelope = Envelope::seal(&event, subject.tenant_id, subject.call_id, 1, stamp)?;
    let reply_to = waits.then(|| state.replies.reply_to().clone());
    // A task of its own, because a caller that hangs up must not leave a call in the log that is not counted.
    let appending = append_and_count(state.clone(), subject.clone(), envelope, reply_to, room);
    match tokio::spawn(appending.in_current_span()).await.unwrap_or(Err(AppendError::Unknown)) {
        Ok(()) => {
            call.evolve(event);
            Ok(Accepted { state: CallState { call, requested_at, finished_at: None }, replayed: false, position: None })
        }
        Err(AppendError::Conflict) => {
            Ok(existing(state, subject, request, plain_fingerprint).await?.ok_or(AppendError::Conflict)?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn append_and_count(
    state: State,
    subject: CallSubject,
    envelope: Envelope,
    reply_to: Option<ReplyTo>,
    room: Room,
) -> Result<(), AppendError> {
    let began = Instant::now();
    let appended = state.log.append(&subject, &envelope, Expect::NOTHING, reply_to.as_ref(), APPEND_PATIENCE).await;
    state.metrics.append(began.elapsed());
    match appended {
        Ok(sequence) => {
            room.appended(sequence);
            toolgate_store::crash::point("command-api.appended");
            Ok(())
        }
        Err(AppendError::Unknown) => {
            room.in_doubt(Instant::now());
            Err(AppendError::Unknown)
        }
        Err(error) => Err(error),
    }
}

/// The call that `request` repeats, if there is one.
async fn existing(
    state: &State,
    subject: &CallSubject,
    mut request: Box<ToolCallRequested>,
    plain_fingerprint: &str,
) -> Result<Option<Accepted>, Error> {
    let recorded = state.log.load(subject).await?;
    let Some(existing) = CallState::of(&recorded)? else { return Ok(None) };
    if existing.call.request.as_ref().is_some_and(|first| !first.request_fingerprint.starts_with(KEYED)) {
        plain_fingerprint.clone_into(&mut request.request_fingerprint);
    }
    match existing.call.decide(Command::Request(request)) {
        Err(toolgate_events::tool_call::Error::AlreadyRequested) => {
            Ok(Some(Accepted { state: existing, replayed: true, position: None }))
        }
        Err(refused) => Err(refused.into()),
        // An existing call never accepts a second request.
        Ok(_) => Err(AppendError::Conflict.into()),
    }
}

fn full(state: &State) -> Error {
    Error::TooManyOpenCalls(state.open_calls.most())
}

/// The announcement is the fast path, the log the truth: a lost announcement costs time, never the answer. Answers with the
/// outcome's stream sequence, if there is an outcome.
async fn wait_for_outcome(
    state: &State,
    subject: &CallSubject,
    mut waiting: WaitForReply,
    deadline: Instant,
    known: &mut CallState,
) -> Option<u64> {
    let mut pause = FIRST_LOOK;
    loop {
        let look = Instant::now() + pause;
        tokio::select! {
            announced = timeout_at(deadline.min(look), waiting.outcome()) => {
                // What cannot be read here is read from the log below.
                if let Ok(announced) = announced
                    && let Ok(envelope) = Envelope::decode(&announced.envelope)
                    && let Ok(envelope) = state.log.keys().open(envelope).await
                    && let Ok(Event::ToolCall(event)) = envelope.event()
                {
                    known.call.evolve(event);
                    known.finished_at = Some(envelope.occurred_at);
                    return Some(announced.stream_sequence);
                }
            }
            () = sleep_until(deadline) => {}
        }
        // The call is accepted: a log that cannot be read for a moment delays its answer and does not turn it into an error.
        match state.log.load(subject).await {
            Ok(recorded) => {
                if let Ok(Some(current)) = CallState::of(&recorded) {
                    *known = current;
                }
                if known.is_final() {
                    return recorded.last().map(|last| last.stream_sequence);
                }
            }
            Err(error) => tracing::warn!(error = %error, subject = %subject, "the log could not be read while waiting"),
        }
        if Instant::now() >= deadline {
            return None;
        }
        pause = (pause * 2).min(LAST_LOOK);
    }
}
