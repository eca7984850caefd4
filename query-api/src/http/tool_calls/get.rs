use axum::{Json, extract};
use serde::Deserialize;
use toolgate_events::{CallId, CallView, TenantId};
use toolgate_security::{Accepts, Authenticated, PathId, Problem, Query, media};
use utoipa::IntoParams;

use super::ToolCallSchema;
use crate::{
    Error, State,
    as_of::{self, AsOf},
    catch_up::Positioned,
    http::refusals::RefusalsOfOne,
    queries::tool_calls,
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
    /// A position, or a date and time (RFC 3339): answer as of then.
    as_of: Option<String>,
}

/// A call as projected
///
/// A call that was accepted is never 404: one that is in the log and not projected yet is waited for. With `as_of` the answer is what
/// its events up to there come to, and 404 before its request; a time stands for everything before the first event of the tenant
/// that occurred later.
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
) -> Result<Positioned<Json<CallView>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let as_of = parameters.as_of.as_deref().map(AsOf::parse).transpose()?;
    let (tenant, call) = (principal.tenant_id, CallId(id?.0));
    if let Some(as_of) = as_of {
        return Ok(find_past(&state, tenant, call, parameters.min_position, as_of).await?);
    }
    if let Some(found) = find(&state, tenant, call, parameters.min_position).await? {
        return Ok(found);
    }
    state.catch_up(tenant, call).await?;
    Ok(find(&state, tenant, call, None).await?.ok_or(Error::NotFound)?)
}

async fn find(
    state: &State,
    tenant: TenantId,
    call: CallId,
    min_position: Option<u64>,
) -> Result<Option<Positioned<Json<CallView>>>, Error> {
    let mut reading = state.read(tenant, min_position).await?;
    let found = tool_calls::find(&mut reading, call).await?;
    let Positioned { answer, position } = reading.end(found).await?;
    match answer {
        Some(call) => Ok(Some(Positioned { answer: Json(call.open(tenant, state.log.keys()).await?), position })),
        None => Ok(None),
    }
}

async fn find_past(
    state: &State,
    tenant: TenantId,
    call: CallId,
    min_position: Option<u64>,
    as_of: AsOf,
) -> Result<Positioned<Json<CallView>>, Error> {
    let reading = state.read(tenant, min_position).await?;
    let reading = state.go_back(reading, as_of).await?;
    let position = reading.position;
    let view = as_of::call(state, reading, call).await?.ok_or(Error::NotFound)?;
    Ok(Positioned { answer: Json(view), position })
}
