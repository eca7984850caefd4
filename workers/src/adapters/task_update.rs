use std::time::{Duration, Instant};

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

/// The call as it is projected, the earlier changes of the task that have no outcome yet, those that may be of the task as well, and
/// the task. One statement, and so one moment: a task that is read here misses no outcome of an earlier call.
const TURN: &str = "
    select t.task_id, t.title, t.description, t.assignee, t.due, t.labels, t.status, t.version,
        (select count(*) from tool_call known where known.call_id = any ($3) and known.finished_at is null) as ahead,
        array(
            select json_build_array(earlier.call_id, earlier.arguments) from tool_call earlier
            where earlier.finished_at is null and earlier.tool = 'task.update'
              and earlier.requested_position < own.requested_position
              and earlier.call_id <> all ($3) and earlier.call_id <> all ($4)
        ) as unknown
    from tool_call own left join task t on t.task_id = $2
    where own.call_id = $1";

/// Where the call stands among the changes of all tasks.
struct Turn {
    /// Changes that are known to be decided before this one.
    ahead: usize,
    /// Those that are if they are of the same task, each with its arguments as they were recorded.
    unknown: Vec<(CallId, Value)>,
    task: Option<Task>,
}

impl FromRow<'_, PgRow> for Turn {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let task: Option<Uuid> = row.try_get("task_id")?;
        let task = task.map(|_| TaskRow::from_row(row).map(|TaskRow(task)| task)).transpose()?;
        let ahead: i64 = row.try_get("ahead")?;
        let unknown: Vec<Json<(CallId, Value)>> = row.try_get("unknown")?;
        let unknown = unknown.into_iter().map(|Json(call)| call).collect();
        Ok(Self { ahead: usize::try_from(ahead).unwrap_or(usize::MAX), unknown, task })
    }
}

/// What is known of the calls that came earlier. Their arguments are sealed, so each is opened once.
#[derive(Default)]
struct Earlier {
    of_the_task: Vec<Uuid>,
    of_others: Vec<Uuid>,
}

impl Earlier {
    /// Learns of calls; answers with how many of them change the task.
    async fn learn(
        &mut self,
        call: &Call,
        environment: &Environment,
        task: Uuid,
        calls: Vec<(CallId, Value)>,
    ) -> Result<usize, ToolError> {
        let before = self.of_the_task.len();
        for (earlier, arguments) in calls {
            let is_of_the_task = self.task_of(call, environment, earlier, arguments).await? == Some(task);
            if is_of_the_task { &mut self.of_the_task } else { &mut self.of_others }.push(earlier.0);
        }
        Ok(self.of_the_task.len() - before)
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
        let turn = sqlx::query_as(TURN).bind(call.call_id.0).bind(task).bind(&earlier.of_the_task).bind(&earlier.of_others);
        let turn: Option<Turn> = turn.fetch_optional(&mut *transaction).await?;
        // Given back before the pause: whoever waits holds no connection.
        transaction.end().await?;
        let turn = match turn {
            Some(turn) => Some((turn.ahead + earlier.learn(call, environment, task, turn.unknown).await?, turn.task)),
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
        tokio::time::sleep(PAUSE_EACH.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)).await;
    }
}
