use axum::{Json, extract};
use serde::Deserialize;
use toolgate_events::{CallId, CallView, TenantId};
use toolgate_security::{Accepts, Authenticated, PathId, Problem, Query, TenantTx, media};
use utoipa::IntoParams;

use super::ToolCallSchema;
use crate::{Error, State, http::refusals::RefusalsOfOne, queries::tool_calls};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
}

/// A call as projected
///
/// A call that was accepted is never 404: one that is in the log and not projected yet is waited for.
#[utoipa::path(
    get,
    path = "/v1/tool-calls/{call_id}",
    tag = "tool-calls",
    params(("call_id" = Uuid, Path), Parameters),
    responses((status = 200, description = "The call", body = ToolCallSchema), RefusalsOfOne),
    security(("bearer" = []))
)]
pub(crate) async fn get_tool_call(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    id: Result<PathId, Problem>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Json<CallView>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let (tenant, call) = (principal.tenant_id, CallId(id?.0));
    if let Some(position) = parameters.min_position {
        state.reach(tenant, position).await?;
    }
    if let Some(view) = find(&state, tenant, call).await? {
        return Ok(Json(view));
    }
    state.catch_up(tenant, call).await?;
    Ok(Json(find(&state, tenant, call).await?.ok_or(Error::NotFound)?))
}

async fn find(state: &State, tenant: TenantId, call: CallId) -> Result<Option<CallView>, Error> {
    let mut tx = TenantTx::begin(&state.pool, tenant).await?;
    let found = tool_calls::find(&mut tx, call).await?;
    tx.end().await?;
    match found {
        Some(call) => Ok(Some(call.open(tenant, state.log.keys()).await?)),
        None => Ok(None),
    }
}
