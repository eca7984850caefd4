//! The `ToolCall` aggregate: its commands, its rules, and the fold of its events.

use cqrs_es::{Aggregate, event_sink::EventSink};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    CallError, CallId, ToolCallCancelled, ToolCallEvent, ToolCallFailed, ToolCallRequested, ToolCallRetried, ToolCallStarted,
    ToolCallSucceeded,
};

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ToolCallStatus")]
pub enum Status {
    Requested,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl Status {
    /// The word in answers and in the read model.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A call as its events tell it. The default is the call that was never requested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub status: Option<Status>,
    pub request: Option<Box<ToolCallRequested>>,
    /// Attempts known to the log; a call that needs no claim is first counted by its outcome.
    pub attempts: u32,
    pub result: Option<Value>,
    /// Whether the result was made for an earlier call.
    #[serde(default)]
    pub cached: bool,
    /// Whether it is older than the caller accepts.
    #[serde(default)]
    pub stale: bool,
    pub error: Option<CallError>,
    /// Whether content of the call is gone, because its key was destroyed.
    #[serde(default)]
    pub erased: bool,
}

/// Where a result comes from that was made for an earlier call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    pub call_id: CallId,
    pub age_seconds: u32,
    /// Whether it is older than the caller accepts, and taken because the other side is down.
    pub stale: bool,
}

/// What may be asked of a call.
#[derive(Clone, Debug)]
pub enum Command {
    Request(Box<ToolCallRequested>),
    /// Claim an effectful call before its effect.
    Start {
        worker: String,
    },
    /// Try again: after an attempt that left no outcome, or after a failure that may pass.
    Retry {
        worker: String,
        reason: String,
        max_attempts: u32,
    },
    Succeed {
        attempt: u32,
        worker: String,
        duration_ms: u64,
        result: Value,
        /// Present when the tool was not run.
        reuse: Option<Reuse>,
    },
    Fail {
        attempt: u32,
        worker: String,
        duration_ms: u64,
        error: CallError,
    },
    Cancel {
        principal: String,
        requested_event_id: Uuid,
    },
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The same request was made before: answer with the call as it stands.
    #[error("this call was already requested")]
    AlreadyRequested,
    /// The key was used for something else (422).
    #[error("the idempotency key was used for a different request")]
    FingerprintMismatch,
    /// There is no such call (404).
    #[error("this call was never requested")]
    NotRequested,
    /// Another worker holds the claim.
    #[error("this call was already started")]
    AlreadyStarted,
    /// Another worker took the call over: this attempt's outcome no longer counts.
    #[error("attempt {attempt} lost its claim to attempt {current}")]
    ClaimLost { attempt: u32, current: u32 },
    /// Running it again would be once more than its contract allows.
    #[error("all {max_attempts} attempts are used up")]
    AttemptsExhausted { max_attempts: u32 },
    /// Nothing can follow an outcome (409).
    #[error("this call has already {}", .0.as_str())]
    AlreadyFinished(Status),
}

impl ToolCall {
    /// The event that follows from a command, or why none does.
    ///
    /// # Errors
    /// [`Error`] when the call's rules refuse the command.
    pub fn decide(&self, command: Command) -> Result<ToolCallEvent, Error> {
        if let Command::Request(request) = command {
            return match &self.request {
                None => Ok(ToolCallEvent::ToolCallRequested(request)),
                Some(first) if first.request_fingerprint == request.request_fingerprint => Err(Error::AlreadyRequested),
                Some(_) => Err(Error::FingerprintMismatch),
            };
        }
        let (Some(status), Some(request)) = (self.status, &self.request) else {
            return Err(Error::NotRequested);
        };
        if status.is_final() {
            return Err(Error::AlreadyFinished(status));
        }
        let (tool, data_subject) = (request.tool.clone(), request.data_subject.clone());
        Ok(match command {
            Command::Request(_) => return Err(Error::AlreadyRequested),
            Command::Start { worker } => {
                if status == Status::Running {
                    return Err(Error::AlreadyStarted);
                }
                ToolCallEvent::ToolCallStarted(ToolCallStarted { tool, attempt: self.attempts + 1, worker })
            }
            Command::Retry { worker, reason, max_attempts } => {
                // A call without a claim may have been tried before, unseen by the log.
                let attempt = self.attempts.max(1) + 1;
                if attempt > max_attempts {
                    return Err(Error::AttemptsExhausted { max_attempts });
                }
                ToolCallEvent::ToolCallRetried(ToolCallRetried { tool, attempt, worker, reason })
            }
            Command::Succeed { attempt, worker, duration_ms, result, reuse } => {
                self.holds_claim(attempt)?;
                ToolCallEvent::ToolCallSucceeded(ToolCallSucceeded {
                    tool,
                    attempt,
                    worker,
                    duration_ms,
                    result,
                    cached: reuse.is_some(),
                    stale: reuse.is_some_and(|reuse| reuse.stale),
                    source_call_id: reuse.map(|reuse| reuse.call_id),
                    age_seconds: reuse.map(|reuse| reuse.age_seconds),
                    data_subject,
                    erased: false,
                })
            }
            Command::Fail { attempt, worker, duration_ms, error } => {
                self.holds_claim(attempt)?;
                let erased = false;
                ToolCallEvent::ToolCallFailed(ToolCallFailed { tool, attempt, worker, duration_ms, error, data_subject, erased })
            }
            Command::Cancel { principal, requested_event_id } => {
                ToolCallEvent::ToolCallCancelled(ToolCallCancelled { tool, principal, requested_event_id })
            }
        })
    }

    fn holds_claim(&self, attempt: u32) -> Result<(), Error> {
        match self.status {
            Some(Status::Running) if self.attempts != attempt => Err(Error::ClaimLost { attempt, current: self.attempts }),
            _ => Ok(()),
        }
    }

    /// The call after `event`. An event that comes twice changes nothing the second time.
    pub fn evolve(&mut self, event: ToolCallEvent) {
        if self.status.is_some_and(Status::is_final) {
            return;
        }
        match event {
            ToolCallEvent::ToolCallRequested(request) => {
                if self.request.is_none() {
                    self.status = Some(Status::Requested);
                    self.erased |= request.erased;
                    self.request = Some(request);
                }
            }
            ToolCallEvent::ToolCallStarted(started) => {
                self.status = Some(Status::Running);
                self.attempts = self.attempts.max(started.attempt);
            }
            ToolCallEvent::ToolCallRetried(retried) => {
                self.status = Some(Status::Running);
                self.attempts = self.attempts.max(retried.attempt);
            }
            ToolCallEvent::ToolCallSucceeded(succeeded) => {
                self.status = Some(Status::Succeeded);
                self.attempts = self.attempts.max(succeeded.attempt);
                self.result = Some(succeeded.result);
                self.erased |= succeeded.erased;
                self.cached = succeeded.cached;
                self.stale = succeeded.stale;
            }
            ToolCallEvent::ToolCallFailed(failed) => {
                self.status = Some(Status::Failed);
                self.attempts = self.attempts.max(failed.attempt);
                self.error = Some(failed.error);
                self.erased |= failed.erased;
            }
            ToolCallEvent::ToolCallCancelled(_) => self.status = Some(Status::Cancelled),
        }
    }
}

impl Aggregate for ToolCall {
    const TYPE: &'static str = "tool_call";
    type Command = Command;
    type Event = ToolCallEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        let event = self.decide(command)?;
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: ToolCallEvent) {
        self.evolve(event);
    }
}

#[cfg(test)]
mod tests;
