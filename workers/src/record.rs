//! The outcome goes on record, and is announced to whoever waits for it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use toolgate_events::{
    CallError, CallSubject, Reuse,
    tool_call::{self, Command},
};
use toolgate_store::{AppendError, Delivery, crash};

use crate::{
    adapters::problem,
    call::{Abandoned, Context, LAST_PAUSE},
    held::{Held, outcome_of},
};

/// How a call ends for this worker.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub attempt: u32,
    /// How long the adapter was at work, all attempts together.
    pub took: Duration,
    pub kind: OutcomeKind,
}

#[derive(Clone, Debug)]
pub enum OutcomeKind {
    Answered(Value),
    /// The result of an earlier call.
    Reused(Value, Reuse),
    Failed(CallError),
}

impl Outcome {
    pub fn failed(attempt: u32, took: Duration, error: CallError) -> Self {
        Self { attempt, took, kind: OutcomeKind::Failed(error) }
    }

    fn command(&self, worker: String) -> Command {
        let (attempt, duration_ms) = (self.attempt, u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX));
        match self.kind.clone() {
            OutcomeKind::Answered(result) => Command::Succeed { attempt, worker, duration_ms, result, reuse: None },
            OutcomeKind::Reused(result, reuse) => Command::Succeed { attempt, worker, duration_ms, result, reuse: Some(reuse) },
            OutcomeKind::Failed(error) => Command::Fail { attempt, worker, duration_ms, error },
        }
    }
}

/// Answers with what went on record; `None` when the call had another outcome before.
pub async fn record(
    context: &Context,
    delivery: &Delivery,
    held: &mut Held,
    tool: &'static str,
    mut outcome: Outcome,
) -> Result<Option<OutcomeKind>, Abandoned> {
    // What the outside says may repeat a credential, and the log keeps it for ever.
    let redactor = &context.environment.redactor;
    match &mut outcome.kind {
        OutcomeKind::Answered(result) | OutcomeKind::Reused(result, _) => redactor.redact_value(result),
        // And no read model could hold U+0000, which answers have none of.
        OutcomeKind::Failed(error) => error.detail = redactor.redact(&error.detail).replace('\0', "\u{fffd}"),
    }
    loop {
        let event = match held.call.decide(outcome.command(context.name.clone())) {
            Ok(event) => event,
            Err(tool_call::Error::AlreadyFinished(status)) => {
                let answered = matches!(outcome.kind, OutcomeKind::Answered(_));
                tracing::warn!(tool, call_id = %held.subject.call_id, status = status.as_str(), answered,
                    "a call had an outcome before its adapter ended");
                finished_elsewhere(context, delivery, &held.subject).await?;
                return Ok(None);
            }
            Err(_) => return Err(Abandoned::ClaimLost),
        };
        match held.append(context, event).await {
            Ok(payload) => {
                crash::point("worker.recorded");
                count(context, tool, &outcome);
                announce(context, delivery, &held.subject, held.last_sequence, payload).await;
                return Ok(Some(outcome.kind));
            }
            Err(Abandoned::Append(AppendError::Conflict)) => held.reload_until_answered(context).await?,
            Err(Abandoned::Append(AppendError::TooLarge)) => {
                let error = problem("result-too-large", "The result is too large to record", "ask for less");
                outcome.kind = OutcomeKind::Failed(error);
            }
            Err(Abandoned::Append(
                error @ (AppendError::Unknown | AppendError::Full | AppendError::Refused(_) | AppendError::Keys(_)),
            )) => {
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

fn count(context: &Context, tool: &'static str, outcome: &Outcome) {
    match &outcome.kind {
        OutcomeKind::Answered(_) => context.metrics.outcome(tool, "succeeded", outcome.took),
        OutcomeKind::Reused(_, reuse) => context.metrics.reused(tool, reuse.stale),
        OutcomeKind::Failed(_) => context.metrics.outcome(tool, "failed", outcome.took),
    }
}

/// The call has an outcome that is not ours: it is announced all the same.
pub async fn finished_elsewhere(context: &Context, delivery: &Delivery, subject: &CallSubject) -> Result<(), Abandoned> {
    let recorded = context.environment.log.load(subject).await?;
    if let Some((sequence, outcome)) = outcome_of(&recorded)? {
        announce(context, delivery, subject, sequence, outcome).await;
    }
    Ok(())
}

pub async fn announce(context: &Context, delivery: &Delivery, subject: &CallSubject, sequence: u64, outcome: Bytes) {
    if let Some(reply_to) = delivery.reply_to() {
        context.environment.log.announce_outcome(&reply_to, subject.call_id, sequence, outcome).await;
    }
}
