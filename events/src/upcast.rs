use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Authorization, CallOptions, Event, Lane, RefusalEvent, ToolCallEvent, ToolCallRequested, ToolCallSucceeded, tools};

/// Why the bytes of an event could not be understood. The event stays in the log and in the audit trail as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not an event envelope: {0}")]
    Malformed(String),
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    #[error("{event_type} has version {version}, newer than any this release knows")]
    UnknownVersion { event_type: String, version: u32 },
    /// Not an event's fault: whoever reads it has to open it first.
    #[error("the content of {event_type} version {version} is sealed and was not opened")]
    Sealed { event_type: String, version: u32 },
    #[error("the data of {event_type} version {version} does not fit: {detail}")]
    Data { event_type: String, version: u32, detail: String },
}

/// The only way from the log into the domain: any version ever written becomes the current one.
///
/// # Errors
/// [`DecodeError`] for an unknown type, a newer version, or data that does not fit its version.
pub fn upcast(event_type: &str, version: u32, data: &Value) -> Result<Event, DecodeError> {
    let read = Reader { event_type, version, data };
    Ok(match (event_type, version) {
        (RefusalEvent::DENIED, 1) => Event::Refusal(RefusalEvent::ToolCallDenied(read.data()?)),
        (RefusalEvent::RATE_LIMITED, 1) => Event::Refusal(RefusalEvent::RateLimitExceeded(read.data()?)),
        _ => Event::ToolCall(tool_call(&read)?),
    })
}

fn tool_call(read: &Reader<'_>) -> Result<ToolCallEvent, DecodeError> {
    Ok(match (read.event_type, read.version) {
        (ToolCallEvent::REQUESTED, 1) => ToolCallEvent::ToolCallRequested(Box::new(read.data::<RequestedV1>()?.into())),
        (ToolCallEvent::REQUESTED, 2 | 3) => ToolCallEvent::ToolCallRequested(read.data()?),
        (ToolCallEvent::STARTED, 1) => ToolCallEvent::ToolCallStarted(read.data()?),
        (ToolCallEvent::RETRIED, 1) => ToolCallEvent::ToolCallRetried(read.data()?),
        (ToolCallEvent::SUCCEEDED, 1) => ToolCallEvent::ToolCallSucceeded(read.data::<SucceededV1>()?.into()),
        (ToolCallEvent::SUCCEEDED, 2 | 3) => ToolCallEvent::ToolCallSucceeded(read.data()?),
        (ToolCallEvent::FAILED, 1 | 2) => ToolCallEvent::ToolCallFailed(read.data()?),
        (ToolCallEvent::CANCELLED, 1) => ToolCallEvent::ToolCallCancelled(read.data()?),
        (
            ToolCallEvent::REQUESTED
            | ToolCallEvent::STARTED
            | ToolCallEvent::RETRIED
            | ToolCallEvent::SUCCEEDED
            | ToolCallEvent::FAILED
            | ToolCallEvent::CANCELLED
            | RefusalEvent::DENIED
            | RefusalEvent::RATE_LIMITED,
            version,
        ) => return Err(DecodeError::UnknownVersion { event_type: read.event_type.to_owned(), version }),
        _ => return Err(DecodeError::UnknownType(read.event_type.to_owned())),
    })
}

struct Reader<'a> {
    event_type: &'a str,
    version: u32,
    data: &'a Value,
}

impl Reader<'_> {
    fn data<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        T::deserialize(self.data).map_err(|error| DecodeError::Data {
            event_type: self.event_type.to_owned(),
            version: self.version,
            detail: error.to_string(),
        })
    }
}

/// `tool_call_requested` before the decision was recorded whole.
#[derive(Deserialize)]
struct RequestedV1 {
    tool: String,
    lane: Lane,
    arguments: Map<String, Value>,
    session_id: Option<String>,
    timeout_ms: Option<u32>,
    request_fingerprint: String,
    principal: String,
    roles: Vec<String>,
    policy_version: String,
}

impl From<RequestedV1> for ToolCallRequested {
    fn from(old: RequestedV1) -> Self {
        Self {
            lane: old.lane,
            arguments: old.arguments,
            session_id: old.session_id,
            options: CallOptions { timeout_ms: old.timeout_ms, ..CallOptions::default() },
            request_fingerprint: old.request_fingerprint,
            authorization: Authorization {
                policy_version: old.policy_version,
                // Version 1 did not say which rule; inventing one would be a lie in the trail.
                rule: "unrecorded".to_owned(),
                principal: old.principal,
                roles: old.roles,
                permissions: Vec::new(),
                tool_version: tools::FIRST_VERSION,
                contract_hash: "unrecorded".to_owned(),
            },
            data_subject: None,
            erased: false,
            tool: old.tool,
        }
    }
}

/// `tool_call_succeeded` before results were cached.
#[derive(Deserialize)]
struct SucceededV1 {
    tool: String,
    attempt: u32,
    worker: String,
    duration_ms: u64,
    result: Value,
}

impl From<SucceededV1> for ToolCallSucceeded {
    fn from(old: SucceededV1) -> Self {
        Self {
            tool: old.tool,
            attempt: old.attempt,
            worker: old.worker,
            duration_ms: old.duration_ms,
            result: old.result,
            cached: false,
            stale: false,
            source_call_id: None,
            age_seconds: None,
            data_subject: None,
            erased: false,
        }
    }
}
