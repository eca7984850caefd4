use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow};
use toolgate_events::{
    task::Task,
    tools::{TaskChange, TaskGetInput, TaskGetOutput},
};
use toolgate_security::TenantTx;
use uuid::Uuid;

use super::{Call, ToolError, answer, task_row};
use crate::Environment;

const TASK: &str = "
    select title, description, assignee, due, labels, status, version, created_at, coalesce(updated_at, created_at) as updated_at
    from task where task_id = $1";

const CHANGES: &str = "
    select c.version, c.call_id, own.principal, c.previous_status, c.status, c.comment, c.changed_at
    from task_change c join tool_call own on own.call_id = c.call_id
    where c.task_id = $1 order by c.version desc limit 50";

struct Found {
    task: Task,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

struct ChangeRow(TaskChange);

/// How long a task that is not there is waited for, in case the call came sooner than the projection of what made it.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let TaskGetInput { task_id } = call.arguments()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
        // Whatever this call can know of came before it.
        let is_projected: bool = sqlx::query_scalar("select exists (select from tool_call where call_id = $1)")
            .bind(call.call_id.0)
            .fetch_one(&mut *transaction)
            .await?;
        let found: Option<Found> = sqlx::query_as(TASK).bind(task_id).fetch_optional(&mut *transaction).await?;
        match found {
            Some(Found { task, created_at, updated_at }) => {
                let changes: Vec<ChangeRow> = sqlx::query_as(CHANGES).bind(task_id).fetch_all(&mut *transaction).await?;
                let changes = changes.into_iter().map(|ChangeRow(change)| change).collect();
                return answer(&TaskGetOutput { task_id, task, created_at, updated_at, changes });
            }
            None if is_projected || Instant::now() >= deadline => return Err(ToolError::NotFound("the tenant has no such task")),
            None => {
                transaction.end().await?;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let task_row::TaskRow(task) = FromRow::from_row(row)?;
        Ok(Self { task, created_at: row.try_get("created_at")?, updated_at: row.try_get("updated_at")? })
    }
}

impl FromRow<'_, PgRow> for ChangeRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let version: i32 = row.try_get("version")?;
        let call_id: Uuid = row.try_get("call_id")?;
        Ok(Self(TaskChange {
            version: version.unsigned_abs(),
            call_id,
            principal: row.try_get("principal")?,
            previous_status: task_row::status(row, "previous_status")?,
            status: task_row::status(row, "status")?,
            comment: row.try_get("comment")?,
            changed_at: row.try_get("changed_at")?,
        }))
    }
}
