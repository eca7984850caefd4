//! One file per command: load → decide → append.

pub mod cancel_tool_call;
pub mod request_tool_call;

use chrono::{DateTime, Utc};
use toolgate_events::{DecodeError, ToolCall};
use toolgate_security::{Problem, ProblemKind};
use toolgate_store::{AppendError, KeyError, LoadError, Recorded, fold};

/// How long a command keeps trying an append that the log does not answer.
pub const APPEND_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A call as the log has it, with the times an answer needs.
#[derive(Clone, Debug)]
pub struct CallState {
    pub call: ToolCall,
    pub requested_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

impl CallState {
    /// # Errors
    /// When one of the events cannot be understood.
    pub fn of(recorded: &[Recorded]) -> Result<Option<Self>, DecodeError> {
        let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else { return Ok(None) };
        let call = fold(recorded)?;
        let finished_at = call.status.is_some_and(|status| status.is_final()).then_some(last.envelope.occurred_at);
        Ok(Some(Self { call, requested_at: first.envelope.occurred_at, finished_at }))
    }

    pub fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 422, 409, 404 or 503, by its own doc.
    #[error(transparent)]
    Refused(#[from] toolgate_events::tool_call::Error),
    /// 503
    #[error(transparent)]
    Append(#[from] AppendError),
    /// 503
    #[error(transparent)]
    Load(#[from] LoadError),
    /// 429
    #[error("the tenant has {0} calls without an outcome")]
    TooManyOpenCalls(u64),
    /// 500
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// 503, 409 when it was erased, or 500 when what was sealed cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// 500
    #[error("an event cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use toolgate_events::tool_call::Error as Rule;
        match error {
            Error::Refused(rule) => match rule {
                Rule::FingerprintMismatch => Self::new(ProblemKind::IdempotencyMismatch, rule.to_string()),
                Rule::NotRequested => Self::not_found(),
                Rule::AlreadyFinished(_) => Self::new(ProblemKind::Conflict, rule.to_string()),
                // Rules of the workers, or of a race this API settles itself.
                Rule::AlreadyRequested | Rule::AlreadyStarted | Rule::ClaimLost { .. } | Rule::AttemptsExhausted { .. } => {
                    internal(&rule)
                }
            },
            Error::TooManyOpenCalls(most) => {
                Self::rate_limited(format!("this tenant has {most} calls without an outcome; wait for some of them to finish"), 1)
            }
            Error::Keys(error) | Error::Append(AppendError::Keys(error)) | Error::Load(LoadError::Keys(error)) => keys(&error),
            Error::Append(AppendError::Full) => Self::unavailable("the log is full; nothing was accepted"),
            Error::Append(AppendError::TooLarge) => Self::new(ProblemKind::TooLarge, "the call is larger than the log accepts"),
            Error::Append(AppendError::Conflict | AppendError::Unknown) => {
                Self::unavailable("the log did not confirm the call; the same request with the same Idempotency-Key is safe")
            }
            Error::Append(AppendError::Refused(error)) => {
                tracing::error!(error = %error, "the log refused an event");
                Self::unavailable("the log does not accept calls at the moment")
            }
            Error::Load(LoadError::Unavailable(error)) => {
                tracing::warn!(error = %error, "the log could not be read");
                Self::unavailable("the log cannot be read at the moment")
            }
            Error::Append(AppendError::Encode(error)) | Error::Encode(error) => internal(&error),
            Error::Load(LoadError::Decode(error)) | Error::Decode(error) => internal(&error),
            Error::Load(LoadError::Subject(error)) => internal(&error),
        }
    }
}

/// Without keys nothing is accepted, and nothing is told that was sealed.
fn keys(error: &KeyError) -> Problem {
    match error {
        KeyError::Erased => {
            Problem::new(ProblemKind::Conflict, "what this is about has been erased, and nothing is recorded of it any more")
        }
        KeyError::Broken(_) => internal(error),
        _ => {
            tracing::error!(error = %error, "content can neither be sealed nor opened");
            Problem::unavailable("the keys that content is sealed with cannot be used at the moment")
        }
    }
}

fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(error = %error, "a command could not be carried out");
    Problem::internal()
}
