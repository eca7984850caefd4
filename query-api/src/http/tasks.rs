use axum::{Json, extract};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use toolgate_events::{serde_text, task::TaskStatus};
use toolgate_security::{Accepts, Authenticated, Problem, Query, media};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    page::{Page, check_text, limit},
    refusals::Refusals,
};
use crate::{
    State,
    catch_up::Positioned,
    cursor::Scope,
    queries::tasks::{self, TaskFilter, TaskRow},
};

/// A task that tools made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Task {
    task_id: Uuid,
    /// The call that made it.
    call_id: Uuid,
    title: String,
    #[schema(required)]
    description: Option<String>,
    #[schema(required)]
    assignee: Option<String>,
    #[serde(with = "serde_text::optional_timestamp")]
    #[schema(required)]
    due: Option<DateTime<Utc>>,
    labels: Vec<String>,
    #[schema(value_type = TaskStatusSchema)]
    status: String,
    /// 1 when it was created, and one more with every change.
    version: i32,
    #[serde(with = "serde_text::timestamp")]
    created_at: DateTime<Utc>,
    #[serde(with = "serde_text::timestamp")]
    updated_at: DateTime<Utc>,
    /// Where it was created: its place in the list.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
    /// Where it was changed last.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    updated_position: u64,
}

#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = TaskStatus, rename_all = "snake_case")]
enum TaskStatusSchema {
    Open,
    InProgress,
    Blocked,
    Done,
    Cancelled,
}

impl From<TaskRow> for Task {
    fn from(row: TaskRow) -> Self {
        Self {
            task_id: row.task_id,
            call_id: row.call_id,
            title: row.title,
            description: row.description,
            assignee: row.assignee,
            due: row.due,
            labels: row.labels,
            status: row.status,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            position: row.position,
            updated_position: row.updated_position,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    #[param(value_type = Option<TaskStatusSchema>)]
    status: Option<TaskStatus>,
    assignee: Option<String>,
    /// One that the task has.
    label: Option<String>,
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
}

/// The tenant's tasks, newest first; changing one leaves it where it is
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "read-models",
    params(Parameters),
    responses((status = 200, description = "A page of tasks", body = Page<Task>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn list_tasks(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Positioned<Json<Page<Task>>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    check_text([("assignee", parameters.assignee.as_deref()), ("label", parameters.label.as_deref())])?;
    let limit = limit(parameters.limit)?;
    let filters = json!([parameters.status, parameters.assignee, parameters.label]);
    let scope = Scope { tenant: principal.tenant_id, list: "tasks", filters: &filters };
    let before = parameters.cursor.map_or(Ok(u64::MAX), |cursor| state.cursors.open(&scope, &cursor))?;
    let filter = TaskFilter { status: parameters.status, assignee: parameters.assignee, label: parameters.label };

    let mut reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let rows = tasks::page(&mut reading, &filter, before, limit + 1).await?;
    let page = Page::cut(rows, limit, Task::from, |last| state.cursors.seal(&scope, last.position));
    Ok(reading.end(Json(page)).await?)
}
