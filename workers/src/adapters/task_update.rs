use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow};
use toolgate_events::{
    task::Task,
    tools::{TaskUpdateInput, TaskUpdateOutput},
};
use toolgate_security::TenantTx;
use uuid::Uuid;

use super::{Call, ToolError, answer, task_row::TaskRow};
use crate::Environment;

/// How long the call waits for its turn; less than an attempt may run, so that it ends with its own words.
const PATIENCE: Duration = Duration::from_secs(8);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(80);

/// The call as it is projected, whether an earlier change of the task has no outcome yet, and the task. One statement, and so one
/// moment: a task that is read here misses no outcome of an earlier call.
const TURN: &str = "
    select t.task_id, t.title, t.description, t.assignee, t.due, t.labels, t.status, t.version,
        exists (
            select from tool_call earlier
            where earlier.finished_at is null and earlier.tool = 'task.update'
              and earlier.requested_position < own.requested_position
              and lower(earlier.arguments->>'task_id') = $2::text
        ) as waits
    from tool_call own left join task t on t.task_id = $2
    where own.call_id = $1";

/// Where the call stands among the changes of its task.
struct Turn {
    waits: bool,
    task: Option<Task>,
}

impl FromRow<'_, PgRow> for Turn {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let task: Option<Uuid> = row.try_get("task_id")?;
        let task = task.map(|_| TaskRow::from_row(row).map(|TaskRow(task)| task)).transpose()?;
        Ok(Self { waits: row.try_get("waits")?, task })
    }
}

/// Decides the change once every earlier one of the task has its outcome; the later ones wait for this call's in turn. Run again
/// before that outcome is recorded, it decides the same.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: TaskUpdateInput = call.arguments()?;
    let task_id = input.task_id;
    let task = turn(call, environment, task_id).await?.ok_or(ToolError::NotFound("the tenant has no such task"))?;
    let previous_status = task.status;
    let task = task.changed(input).map_err(|refused| ToolError::Conflict(refused.to_string()))?;
    answer(&TaskUpdateOutput { task_id, previous_status, task })
}

/// The task when it is this call's turn; `None` when there is no such task.
async fn turn(call: &Call, environment: &Environment, task: Uuid) -> Result<Option<Task>, ToolError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
        let turn: Option<Turn> = sqlx::query_as(TURN).bind(call.call_id.0).bind(task).fetch_optional(&mut *transaction).await?;
        // Given back before the pause: whoever waits holds no connection.
        transaction.end().await?;
        let is_late = Instant::now() >= deadline;
        match turn {
            Some(Turn { waits: false, task }) => return Ok(task),
            Some(_) if is_late => {
                return Err(ToolError::Conflict(
                    "earlier changes of the task have no outcome yet; nothing was changed".to_owned(),
                ));
            }
            None if is_late => return Err(ToolError::Infrastructure("the call is not projected yet".to_owned())),
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
