use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow, types::Json};
use toolgate_events::{
    CallId,
    sealing::{Member, Opened},
    task::{Refused, Task},
    tools::{TaskUpdateInput, TaskUpdateOutput},
};
use toolgate_security::TenantTx;
use toolgate_store::KeyError;
use uuid::Uuid;

use super::{Call, ToolError, answer, task_row::TaskRow};
use crate::Environment;

/// How long the call waits for its turn; less than an attempt may run, so that it ends with its own words.
const PATIENCE: Duration = Duration::from_secs(25);
/// Between two looks, for each change that is ahead: who is last looks seldom, so that many who wait do not keep the database busy.
const PAUSE_EACH: Duration = Duration::from_millis(8);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The call as it is projected, the earlier changes that have no outcome yet and may be of the same task, and the task. One
/// statement, and so one moment: a task that is read here misses no outcome of an earlier call.
const TURN: &str = "
    select t.task_id, t.title, t.description, t.assignee, t.due, t.labels, t.status, t.version,
        array(
            select json_build_array(earlier.call_id, earlier.arguments) from tool_call earlier
            where earlier.finished_at is null and earlier.tool = 'task.update'
              and earlier.requested_position < own.requested_position and earlier.call_id <> all ($3)
        ) as earlier
    from tool_call own left join task t on t.task_id = $2
    where own.call_id = $1";

/// Where the call stands among the changes of all tasks.
struct Turn {
    /// Calls that are decided before this one if they are of the same task, each with its arguments as they were recorded.
    earlier: Vec<(CallId, Value)>,
    task: Option<Task>,
}

impl FromRow<'_, PgRow> for Turn {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let task: Option<Uuid> = row.try_get("task_id")?;
        let task = task.map(|_| TaskRow::from_row(row).map(|TaskRow(task)| task)).transpose()?;
        let earlier: Vec<Json<(CallId, Value)>> = row.try_get("earlier")?;
        Ok(Self { earlier: earlier.into_iter().map(|Json(earlier)| earlier).collect(), task })
    }
}

/// What is known of the calls that came earlier. Their arguments are sealed, so each is opened once.
#[derive(Default)]
struct Earlier {
    of_the_task: HashSet<CallId>,
    others: Vec<Uuid>,
}

impl Earlier {
    /// How many of these calls change the task.
    async fn count(&mut self, call: &Call, environment: &Environment, task: Uuid, calls: Vec<(CallId, Value)>) -> Result<u32, ToolError> {
        let mut ahead = 0;
        for (earlier, arguments) in calls {
            if !self.of_the_task.contains(&earlier) {
                if self.task_of(call, environment, earlier, arguments).await? != Some(task) {
                    self.others.push(earlier.0);
                    continue;
                }
                self.of_the_task.insert(earlier);
            }
            ahead += 1;
        }
        Ok(ahead)
    }

    /// Nothing where the arguments are erased, or are none.
    async fn task_of(
        &self,
        call: &Call,
        environment: &Environment,
        earlier: CallId,
        arguments: Value,
    ) -> Result<Option<Uuid>, ToolError> {
        let keys = environment.log.keys();
        match keys.open_member(call.tenant_id, earlier, Member::Arguments, arguments).await {
            Ok(Opened::Content(arguments)) => Ok(arguments["task_id"].as_str().and_then(|id| id.parse().ok())),
            Ok(Opened::Erased) | Err(KeyError::Broken(_)) => Ok(None),
            Err(error) => Err(ToolError::Infrastructure(error.to_string())),
        }
    }
}

/// Decides the change once every earlier one of the task has its outcome; the later ones wait for this call's in turn. Run again
/// before that outcome is recorded, it decides the same.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: TaskUpdateInput = call.arguments()?;
    let task_id = input.task_id;
    let task = turn(call, environment, task_id).await?.ok_or(ToolError::NotFound("the tenant has no such task"))?;
    let previous_status = task.status;
    let task = task.changed(input).map_err(|refused| match refused {
        Refused::Nothing => ToolError::InvalidArguments(refused.to_string()),
        refused => ToolError::Conflict(refused.to_string()),
    })?;
    answer(&TaskUpdateOutput { task_id, previous_status, task })
}

/// The task when it is this call's turn; `None` when there is no such task.
async fn turn(call: &Call, environment: &Environment, task: Uuid) -> Result<Option<Task>, ToolError> {
    let deadline = Instant::now() + PATIENCE;
    let mut earlier = Earlier::default();
    loop {
        let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
        let turn = sqlx::query_as(TURN).bind(call.call_id.0).bind(task).bind(&earlier.others);
        let turn: Option<Turn> = turn.fetch_optional(&mut *transaction).await?;
        // Given back before the pause: whoever waits holds no connection.
        transaction.end().await?;
        let turn = match turn {
            Some(turn) => Some((earlier.count(call, environment, task, turn.earlier).await?, turn.task)),
            None => None,
        };
        let is_late = Instant::now() >= deadline;
        let ahead = match turn {
            Some((0, task)) => return Ok(task),
            Some(_) if is_late => {
                return Err(ToolError::Conflict(
                    "earlier changes of the task have no outcome yet; nothing was changed".to_owned(),
                ));
            }
            None if is_late => return Err(ToolError::Infrastructure("the call is not projected yet".to_owned())),
            Some((ahead, _)) => ahead,
            None => 1,
        };
        tokio::time::sleep(PAUSE_EACH.saturating_mul(ahead).min(LONGEST_PAUSE)).await;
    }
}
