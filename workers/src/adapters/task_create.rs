use serde_json::Value;
use toolgate_events::tools::{TaskCreateInput, TaskCreateOutput};
use uuid::Uuid;

use super::{Call, ToolError, answer};
use crate::Environment;

/// The task is a projection of this outcome, and its id follows from the call's: run twice, it is the same task.
pub async fn run(call: &Call, _: &Environment) -> Result<Value, ToolError> {
    let _input: TaskCreateInput = call.arguments()?;
    answer(&TaskCreateOutput { task_id: Uuid::new_v5(&call.call_id.0, b"task") })
}
