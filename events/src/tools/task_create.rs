use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Contract, Retry, SideEffects, lane};

/// Arguments of `task.create`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskCreateInput {
    /// Not blank.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"\S"))]
    pub title: String,
    #[schemars(length(max = 10_000))]
    pub description: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    pub assignee: Option<String>,
    /// RFC 3339, in any time zone.
    pub due: Option<DateTime<Utc>>,
    #[schemars(length(max = 50), inner(length(min = 1, max = 100)), extend("uniqueItems" = true))]
    pub labels: Option<Vec<String>>,
}

/// Result of `task.create`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TaskCreateOutput {
    pub task_id: Uuid,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Creates a task with the status open. The task is what the recorded outcome says: a call that ran twice still made \
             one.",
        side_effects: SideEffects::Idempotent,
        lane: lane("task"),
        timeout_ms: 10_000,
        retry: Retry::up_to(5),
        examples: vec![
            json!({"title": "Review the report", "assignee": "ada", "labels": ["audit"], "due": "2030-01-31T12:00:00Z"}),
        ],
        // 2: a title is not blank, and no label comes twice.
        ..Contract::of::<TaskCreateInput, TaskCreateOutput>("task.create", 2)
    }
}
