use axum::{Json, extract};
use serde::Deserialize;
use serde_json::json;
use toolgate_events::{CallView, Status};
use toolgate_security::{Accepts, Authenticated, Problem, Query, TenantTx, media};
use utoipa::IntoParams;

use super::{StatusSchema, ToolCallSchema};
use crate::{
    Error, State,
    cursor::Scope,
    http::{
        page::{Page, check_text, limit},
        refusals::Refusals,
    },
    queries::tool_calls::{self, CallFilter},
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    session_id: Option<String>,
    tool: Option<String>,
    #[param(value_type = Option<StatusSchema>)]
    status: Option<Status>,
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

/// The tenant's calls, newest first
#[utoipa::path(
    get,
    path = "/v1/tool-calls",
    tag = "tool-calls",
    params(Parameters),
    responses((status = 200, description = "A page of calls", body = Page<ToolCallSchema>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn list_tool_calls(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Json<Page<CallView>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    check_text([("session_id", parameters.session_id.as_deref()), ("tool", parameters.tool.as_deref())])?;
    let limit = limit(parameters.limit)?;
    let filters = json!([parameters.session_id, parameters.tool, parameters.status]);
    let scope = Scope { tenant: principal.tenant_id, list: "tool-calls", filters: &filters };
    let before = parameters.cursor.map_or(Ok(u64::MAX), |cursor| state.cursors.open(&scope, &cursor))?;
    let filter = CallFilter { session_id: parameters.session_id, tool: parameters.tool, status: parameters.status };

    let mut tx = TenantTx::begin(&state.pool, principal.tenant_id).await.map_err(Error::from)?;
    let calls = tool_calls::page(&mut tx, &filter, before, limit + 1).await?;
    tx.end().await.map_err(Error::from)?;
    let page = Page::cut(calls, limit, |call| call, |last| state.cursors.seal(&scope, last.requested_position));
    let mut items = Vec::with_capacity(page.items.len());
    for call in page.items {
        items.push(call.open(principal.tenant_id, state.log.keys()).await?);
    }
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}
