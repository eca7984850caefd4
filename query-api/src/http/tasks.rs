use axum::{Json, extract};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toolgate_events::serde_text;
use toolgate_security::{Accepts, Authenticated, Problem, Query, TenantTx, media};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    page::{Page, limit},
    refusals::Refusals,
};
use crate::{
    Error, State,
    cursor::Scope,
    queries::tasks::{self, TaskRow},
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
    status: String,
    #[serde(with = "serde_text::timestamp")]
    created_at: DateTime<Utc>,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
}

impl From<TaskRow> for Task {
    fn from(row: TaskRow) -> Self {
        let TaskRow { task_id, call_id, title, description, assignee, due, labels, status, created_at, position } = row;
        Self { task_id, call_id, title, description, assignee, due, labels, status, created_at, position }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The tenant's tasks, newest first
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
) -> Result<Json<Page<Task>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let limit = limit(parameters.limit)?;
    let scope = Scope { tenant: principal.tenant_id, list: "tasks", filters: &Value::Null };
    let before = parameters.cursor.map_or(Ok(u64::MAX), |cursor| state.cursors.open(&scope, &cursor))?;

    let mut tx = TenantTx::begin(&state.pool, principal.tenant_id).await.map_err(Error::from)?;
    let rows = tasks::page(&mut tx, before, limit + 1).await?;
    tx.end().await.map_err(Error::from)?;
    Ok(Json(Page::cut(rows, limit, Task::from, |last| state.cursors.seal(&scope, last.position))))
}
