use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{CallId, Lane, RefusalEvent};

/// Whatever the log may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    ToolCall(ToolCallEvent),
    Refusal(RefusalEvent),
}

impl Event {
    /// The `event_type` of the envelope.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ToolCall(event) => event.name(),
            Self::Refusal(event) => event.name(),
        }
    }

    /// The `event_version` this release writes.
    pub fn version(&self) -> u32 {
        match self {
            Self::ToolCall(event) => event.version(),
            Self::Refusal(event) => event.version(),
        }
    }

    /// The envelope's `data`.
    ///
    /// # Errors
    /// None of these types can fail to serialise; the signature is serde's.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::ToolCall(event) => event.data(),
            Self::Refusal(event) => event.data(),
        }
    }

    /// What happened to a call; `None` for what belongs to no call.
    pub fn into_tool_call(self) -> Option<ToolCallEvent> {
        match self {
            Self::ToolCall(event) => Some(event),
            Self::Refusal(_) => None,
        }
    }
}

/// What can happen to a tool call. The wire form is the envelope's `event_type`, `event_version` and `data`; the Rust names
/// never reach the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event_type", content = "data", rename_all = "snake_case")]
pub enum ToolCallEvent {
    ToolCallRequested(Box<ToolCallRequested>),
    ToolCallStarted(ToolCallStarted),
    ToolCallRetried(ToolCallRetried),
    ToolCallSucceeded(ToolCallSucceeded),
    ToolCallFailed(ToolCallFailed),
    ToolCallCancelled(ToolCallCancelled),
}

impl ToolCallEvent {
    pub const REQUESTED: &'static str = "tool_call_requested";
    pub const STARTED: &'static str = "tool_call_started";
    pub const RETRIED: &'static str = "tool_call_retried";
    pub const SUCCEEDED: &'static str = "tool_call_succeeded";
    pub const FAILED: &'static str = "tool_call_failed";
    pub const CANCELLED: &'static str = "tool_call_cancelled";

    /// The `event_type` of the envelope.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ToolCallRequested(_) => Self::REQUESTED,
            Self::ToolCallStarted(_) => Self::STARTED,
            Self::ToolCallRetried(_) => Self::RETRIED,
            Self::ToolCallSucceeded(_) => Self::SUCCEEDED,
            Self::ToolCallFailed(_) => Self::FAILED,
            Self::ToolCallCancelled(_) => Self::CANCELLED,
        }
    }

    /// The `event_version` this release writes. Older ones are upcast on reading.
    pub fn version(&self) -> u32 {
        match self {
            Self::ToolCallRequested(_) | Self::ToolCallSucceeded(_) => 3,
            Self::ToolCallFailed(_) => 2,
            _ => 1,
        }
    }

    /// The envelope's `data`.
    ///
    /// # Errors
    /// None of these types can fail to serialise; the signature is serde's.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::ToolCallRequested(data) => serde_json::to_value(data),
            Self::ToolCallStarted(data) => serde_json::to_value(data),
            Self::ToolCallRetried(data) => serde_json::to_value(data),
            Self::ToolCallSucceeded(data) => serde_json::to_value(data),
            Self::ToolCallFailed(data) => serde_json::to_value(data),
            Self::ToolCallCancelled(data) => serde_json::to_value(data),
        }
    }

    /// Whether nothing can follow this event.
    pub fn is_outcome(&self) -> bool {
        matches!(self, Self::ToolCallSucceeded(_) | Self::ToolCallFailed(_) | Self::ToolCallCancelled(_))
    }
}

impl DomainEvent for ToolCallEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }

    fn event_version(&self) -> String {
        self.version().to_string()
    }
}

/// A principal asked for a call and was allowed to. Version 3: its arguments are sealed. Version 1 kept the decision in loose fields
/// and knew no options but the timeout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallRequested {
    pub tool: String,
    pub lane: Lane,
    pub arguments: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
    #[serde(default)]
    pub options: CallOptions,
    /// Over the canonical request: the same key with another fingerprint is refused. `hmac:` and an HMAC-SHA256, so that nobody can
    /// guess the arguments from it; a plain SHA-256 before version 3.
    pub request_fingerprint: String,
    pub authorization: Authorization,
    /// The pseudonym of whoever the content is about, under whose key it is sealed; the tenant's when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_subject: Option<String>,
    /// Whether the arguments are gone, because their key was destroyed. Never recorded.
    #[serde(skip_serializing_if = "is_false", default)]
    pub erased: bool,
}

/// What the caller may choose about a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallOptions {
    /// BCP 47 language tag.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub locale: Option<String>,
    /// How old a cached result may be, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub freshness_seconds: Option<u32>,
    /// How long one attempt may run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_ms: Option<u32>,
}

/// The decision that let the call in, with everything it was decided from: what is not recorded here can never be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authorization {
    pub policy_version: String,
    pub rule: String,
    pub principal: String,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    pub tool_version: u32,
    pub contract_hash: String,
}

/// A worker claimed an effectful call before touching the outside world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallStarted {
    pub tool: String,
    pub attempt: u32,
    pub worker: String,
}

/// The call is tried again: another worker takes it over from an attempt that left no outcome, or its own after a failure that may
/// pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallRetried {
    pub tool: String,
    pub attempt: u32,
    pub worker: String,
    pub reason: String,
}

/// The tool answered, or what it had answered before will do. Version 3: its result is sealed. Before version 2, every result was the
/// call's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallSucceeded {
    pub tool: String,
    pub attempt: u32,
    pub worker: String,
    pub duration_ms: u64,
    pub result: Value,
    /// Whether the result was made for an earlier call.
    pub cached: bool,
    /// Whether it is older than the caller accepts, and taken because the other side is down.
    pub stale: bool,
    /// The call that a cached result was made for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_call_id: Option<CallId>,
    /// How old a cached result was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_seconds: Option<u32>,
    /// As in the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_subject: Option<String>,
    /// Whether the result is gone, because its key was destroyed. Never recorded.
    #[serde(skip_serializing_if = "is_false", default)]
    pub erased: bool,
}

/// The tool did not answer, or refused. Version 2: the error's detail is sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallFailed {
    pub tool: String,
    pub attempt: u32,
    pub worker: String,
    pub duration_ms: u64,
    pub error: CallError,
    /// As in the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_subject: Option<String>,
    /// Whether the error's detail is gone, because its key was destroyed. Never recorded.
    #[serde(skip_serializing_if = "is_false", default)]
    pub erased: bool,
}

/// A problem object (RFC 9457) as it is recorded with a failed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallError {
    /// A stable URN, `urn:toolgate:tool:<what>`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub detail: String,
}

/// A principal called it off before it had an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallCancelled {
    pub tool: String,
    pub principal: String,
    /// The `tool_call_requested` event this undoes.
    pub requested_event_id: Uuid,
}

/// What is not so needs no word.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
