use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Contract, FIRST_VERSION, Retry, SideEffects, lane};
use crate::task::{Task, TaskStatus};

/// Arguments of `task.update`. What is not named stays as it is, and `null` clears.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["title"]}, {"required": ["description"]}, {"required": ["assignee"]}, {"required": ["due"]},
    {"required": ["labels"]}, {"required": ["status"]}, {"required": ["comment"]},
]))]
pub struct TaskUpdateInput {
    pub task_id: Uuid,
    /// Not blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 500), regex(pattern = r"\S"))]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    #[schemars(with = "Option<String>", length(max = 10_000))]
    pub description: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    #[schemars(with = "Option<String>", length(min = 1, max = 255))]
    pub assignee: Option<Option<String>>,
    /// RFC 3339, in any time zone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub due: Option<Option<DateTime<Utc>>>,
    /// In place of all the labels there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 50), inner(length(min = 1, max = 100)), extend("uniqueItems" = true))]
    pub labels: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TaskStatus")]
    pub status: Option<TaskStatus>,
    /// Kept with the change, and shown by `task.get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 2_000), regex(pattern = r"\S"))]
    pub comment: Option<String>,
    /// The version that the change is meant for: nothing is changed when the task has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))]
    pub expected_version: Option<u32>,
}

/// Result of `task.update`: the task after the change.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TaskUpdateOutput {
    pub task_id: Uuid,
    pub previous_status: TaskStatus,
    #[serde(flatten)]
    pub task: Task,
}

/// A member that is there, `null` included.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Changes a task. From open and in_progress any status may follow; from blocked open, in_progress or cancelled; done \
             and cancelled can only be reopened, by the status open. The same status again is no transition. The changes of one task are \
             decided in the order in which they were requested; one that the rules refuse fails with urn:toolgate:tool:conflict and \
             changes nothing.",
        side_effects: SideEffects::Idempotent,
        lane: lane("task"),
        timeout_ms: 10_000,
        retry: Retry::up_to(5),
        examples: vec![
            json!({"task_id": "6f1c2f5e-9d53-5d0a-8b0e-0d6f4f3f2a11", "status": "in_progress", "comment": "On it."}),
            json!({"task_id": "6f1c2f5e-9d53-5d0a-8b0e-0d6f4f3f2a11", "assignee": null, "due": "2030-02-01T09:00:00+07:00"}),
        ],
        ..Contract::of::<TaskUpdateInput, TaskUpdateOutput>("task.update", FIRST_VERSION)
    }
}
