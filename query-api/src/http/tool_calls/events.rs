use axum::{Json, extract};
use toolgate_events::{CallId, TenantId, audit::AuditRow};
use toolgate_security::{Accepts, Authenticated, PathId, Problem, Query, media};

use crate::{
    Error, State,
    catch_up::Positioned,
    http::{
        audit::AuditRowSchema,
        page::{MinPosition, Page},
        refusals::RefusalsOfOne,
    },
    opening::open_rows,
    queries::audit,
};

/// A call's events, in order
///
/// With their content. `hash` is over the row as it was recorded, which `GET /v1/audit` shows.
#[utoipa::path(
    get,
    path = "/v1/tool-calls/{call_id}/events",
    tag = "tool-calls",
    params(("call_id" = Uuid, Path), MinPosition),
    responses((status = 200, description = "All of its events", body = Page<AuditRowSchema>), RefusalsOfOne),
    security(("bearer" = []))
)]
pub(crate) async fn list_tool_call_events(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    id: Result<PathId, Problem>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<MinPosition>, Problem>,
) -> Result<Positioned<Json<Page<AuditRow>>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let (tenant, call) = (principal.tenant_id, CallId(id?.0));
    let mut events = find(&state, tenant, call, parameters.min_position).await?;
    if events.answer.is_empty() {
        state.catch_up(tenant, call).await?;
        events = find(&state, tenant, call, None).await?;
    }
    let Positioned { answer: events, position } = events;
    if events.is_empty() { Err(Problem::not_found()) } else { Ok(Positioned { answer: Json(Page::whole(events)), position }) }
}

async fn find(
    state: &State,
    tenant: TenantId,
    call: CallId,
    min_position: Option<u64>,
) -> Result<Positioned<Vec<AuditRow>>, Error> {
    let reading = state.read(tenant, min_position).await?;
    let position = reading.position;
    let mut events = audit::of_call(reading.into(), &state.segments, call).await?;
    open_rows(state.log.keys(), tenant, &mut events).await?;
    Ok(Positioned { answer: events, position })
}
