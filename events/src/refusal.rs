//! What was refused before it could become a call. A refusal belongs to no call: each is an aggregate of its own, of one event.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests that were refused, counted. The wire form is that of [`ToolCallEvent`](crate::ToolCallEvent).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "data", rename_all = "snake_case")]
pub enum RefusalEvent {
    ToolCallDenied(ToolCallDenied),
    RateLimitExceeded(RateLimitExceeded),
}

impl RefusalEvent {
    pub const DENIED: &'static str = "tool_call_denied";
    pub const RATE_LIMITED: &'static str = "rate_limit_exceeded";
    /// The `aggregate_type` of the envelope.
    pub const AGGREGATE_TYPE: &'static str = "refusal";

    /// The `event_type` of the envelope.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ToolCallDenied(_) => Self::DENIED,
            Self::RateLimitExceeded(_) => Self::RATE_LIMITED,
        }
    }

    /// The `event_version` this release writes.
    pub fn version(&self) -> u32 {
        1
    }

    /// The envelope's `data`.
    ///
    /// # Errors
    /// None of these types can fail to serialise; the signature is serde's.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::ToolCallDenied(data) => serde_json::to_value(data),
            Self::RateLimitExceeded(data) => serde_json::to_value(data),
        }
    }

    /// Whose requests they were; `None` when they were several principals'.
    pub fn principal(&self) -> Option<&str> {
        match self {
            Self::ToolCallDenied(denied) => denied.principal.as_deref(),
            Self::RateLimitExceeded(exceeded) => exceeded.principal.as_deref(),
        }
    }
}

/// A known principal asked for what the policy does not let it do. Holds everything that was decided from, so that the decision
/// can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCallDenied {
    /// A name of the registry; absent when the request named no tool that exists, or was about a call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<String>,
    /// What was missing; [`ToolCallDenied::ANY_TOOL`] when the request named no tool that exists.
    pub permission: String,
    pub policy_version: String,
    /// Which rule denied it, or that none grants it.
    pub rule: String,
    /// Absent when the refusals of several principals are counted as one, because there were too many to tell apart: then there
    /// are no roles and permissions either, and `permission` and `rule` are [`ToolCallDenied::SEVERAL`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<String>,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    /// Requests refused for this reason since the last such event.
    pub refused: u64,
    /// The time within which they are counted together.
    pub window_seconds: u32,
}

impl ToolCallDenied {
    /// The permission to call whatever tool there is.
    pub const ANY_TOOL: &'static str = "tool.*.*:invoke";
    pub const SEVERAL: &'static str = "several";
}

/// Requests went over a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimitExceeded {
    /// Which limit.
    pub policy: LimitPolicy,
    /// A name of the registry; absent when the limit is not a tool's, or there were too many keys to tell apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<String>,
    pub limit: u64,
    /// The time within which the refusals are counted together.
    pub window_seconds: u32,
    /// Absent when the refusals of several principals are counted as one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<String>,
    /// Requests refused for this reason since the last such event.
    pub refused: u64,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitPolicy {
    /// Requests of a tenant in a minute.
    Tenant,
    /// Calls of one tool by a tenant in a minute.
    Tool,
    /// Calls of a tenant that have no outcome yet.
    OpenCalls,
}
