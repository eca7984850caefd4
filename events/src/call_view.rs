use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CallError, CallId, Status, serde_text};

/// A call as both APIs answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ToolCall")]
pub struct CallView {
    pub call_id: CallId,
    pub tool: String,
    pub status: Status,
    pub session_id: Option<String>,
    /// What the tool answered, once it has succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Value>,
    /// Why it failed, once it has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<CallError>,
    /// Whether the result was made for an earlier call; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cached: Option<bool>,
    /// Whether it is older than the caller accepts, because the other side is down; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stale: Option<bool>,
    /// Whether its arguments, its result or the detail of its error are gone because they were erased; absent when they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub erased: Option<bool>,
    pub attempts: u32,
    #[serde(with = "serde_text::timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub requested_at: DateTime<Utc>,
    #[serde(with = "serde_text::optional_timestamp", skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub finished_at: Option<DateTime<Utc>>,
    /// A position of the tenant at which the call is projected as shown, as a string; null until it is known to be.
    #[serde(default)]
    pub position: Option<String>,
    pub links: CallLinks,
}

/// Where to go from a call, as paths of the same origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ToolCallLinks")]
pub struct CallLinks {
    #[serde(rename = "self")]
    pub own: String,
    pub events: String,
    pub cancel: String,
}

impl CallLinks {
    pub fn of(call: CallId) -> Self {
        let own = format!("/v1/tool-calls/{call}");
        Self { events: format!("{own}/events"), cancel: format!("{own}/cancel"), own }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_open_call_has_neither_result_nor_end() {
        let call_id = CallId(Uuid::from_u128(7));
        let view = CallView {
            call_id,
            tool: "task.create".to_owned(),
            status: Status::Requested,
            session_id: None,
            result: None,
            error: None,
            cached: None,
            stale: None,
            erased: None,
            attempts: 0,
            requested_at: DateTime::from_timestamp(0, 5_000).unwrap(),
            finished_at: None,
            position: Some("9".to_owned()),
            links: CallLinks::of(call_id),
        };
        let own = "/v1/tool-calls/00000000-0000-0000-0000-000000000007";
        let expected = json!({
            "call_id": "00000000-0000-0000-0000-000000000007",
            "tool": "task.create",
            "status": "requested",
            "session_id": null,
            "attempts": 0,
            "requested_at": "1970-01-01T00:00:00.000005Z",
            "position": "9",
            "links": {"self": own, "events": format!("{own}/events"), "cancel": format!("{own}/cancel")},
        });
        assert_eq!(serde_json::to_value(&view).unwrap(), expected);
        assert_eq!(serde_json::from_value::<CallView>(expected).unwrap(), view);
    }
}
