//! What was refused before it could become a call. A refusal belongs to no call: each is an aggregate of its own, of one event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests that were refused, counted. The wire form is that of [`ToolCallEvent`](crate::ToolCallEvent).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// What stands where too many are counted as one to be told apart.
    pub const SEVERAL: &'static str = "several";

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

    /// How many requests it tells of.
    pub fn refused(&self) -> u64 {
        match self {
            Self::ToolCallDenied(denied) => denied.refused,
            Self::RateLimitExceeded(exceeded) => exceeded.refused,
        }
    }

    /// The same for another number of requests.
    #[must_use]
    pub fn counted(mut self, requests: u64) -> Self {
        match &mut self {
            Self::ToolCallDenied(denied) => denied.refused = requests,
            Self::RateLimitExceeded(exceeded) => exceeded.refused = requests,
        }
        self
    }

    /// The same without what tells principals and tools apart.
    #[must_use]
    pub fn of_several(self) -> Self {
        match self {
            Self::ToolCallDenied(denied) => Self::ToolCallDenied(ToolCallDenied {
                tool: None,
                permission: Self::SEVERAL.to_owned(),
                rule: Self::SEVERAL.to_owned(),
                principal: None,
                roles: Vec::new(),
                permissions: Vec::new(),
                ..denied
            }),
            Self::RateLimitExceeded(exceeded) => {
                Self::RateLimitExceeded(RateLimitExceeded { tool: None, principal: None, ..exceeded })
            }
        }
    }
}

/// A known principal asked for what the policy does not let it do. Holds everything that was decided from, so that the decision
/// can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// are no roles and permissions either, and `permission` and `rule` are [`RefusalEvent::SEVERAL`].
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
}

/// Requests went over a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitPolicy {
    /// Requests of a tenant in a minute.
    Tenant,
    /// Calls of one tool by a tenant in a minute.
    Tool,
    /// Calls of a tenant that have no outcome yet.
    OpenCalls,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_nothing_is_left_that_tells_them_apart() {
        let denied = RefusalEvent::ToolCallDenied(ToolCallDenied {
            tool: Some("task.create".to_owned()),
            permission: "tool.task.create:invoke".to_owned(),
            policy_version: "p".to_owned(),
            rule: "no rule grants it".to_owned(),
            principal: Some("ada".to_owned()),
            roles: vec!["viewer".to_owned()],
            permissions: vec!["a:b".to_owned()],
            refused: 0,
            window_seconds: 60,
        });
        let exceeded = RefusalEvent::RateLimitExceeded(RateLimitExceeded {
            policy: LimitPolicy::OpenCalls,
            tool: Some("task.create".to_owned()),
            limit: 5,
            window_seconds: 60,
            principal: Some("ada".to_owned()),
            refused: 0,
        });
        assert_eq!((denied.principal(), exceeded.principal()), (Some("ada"), Some("ada")));
        let several = denied.of_several().counted(3);
        assert_eq!((several.principal(), several.refused()), (None, 3));
        let expected = serde_json::json!({
            "permission": "several", "policy_version": "p", "rule": "several", "roles": [], "permissions": [],
            "refused": 3, "window_seconds": 60,
        });
        assert_eq!(several.data().unwrap(), expected);
        let several = exceeded.of_several().counted(2);
        assert_eq!((several.principal(), several.refused()), (None, 2));
        let expected = serde_json::json!({"policy": "open_calls", "limit": 5, "window_seconds": 60, "refused": 2});
        assert_eq!(several.data().unwrap(), expected);
    }
}
