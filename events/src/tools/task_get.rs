use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Contract, FIRST_VERSION, Retry, SideEffects, lane};
use crate::{
    serde_text,
    task::{Task, TaskStatus},
};

/// Arguments of `task.get`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskGetInput {
    pub task_id: Uuid,
}

/// Result of `task.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TaskGetOutput {
    pub task_id: Uuid,
    #[serde(flatten)]
    pub task: Task,
    #[serde(with = "serde_text::timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "serde_text::timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
    /// The newest 50, newest first.
    pub changes: Vec<TaskChange>,
}

/// One change of a task.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TaskChange {
    /// The task's version after it.
    pub version: u32,
    /// The call that asked for it.
    pub call_id: Uuid,
    /// Who asked for it.
    pub principal: String,
    pub previous_status: TaskStatus,
    pub status: TaskStatus,
    pub comment: Option<String>,
    #[serde(with = "serde_text::timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub changed_at: DateTime<Utc>,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Reads one task and its latest changes.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("search"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        examples: vec![json!({"task_id": "6f1c2f5e-9d53-5d0a-8b0e-0d6f4f3f2a11"})],
        ..Contract::of::<TaskGetInput, TaskGetOutput>("task.get", FIRST_VERSION)
    }
}
