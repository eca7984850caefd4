use axum::{Json, extract};
use toolgate_events::{CallId, TenantId, audit::AuditRow};
use toolgate_security::{Accepts, Authenticated, PathId, Problem, Query, TenantTx, media};

use crate::{
    Error, State,
    http::{
        audit::AuditRowSchema,
        page::{NoParameters, Page},
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
    params(("call_id" = Uuid, Path)),
    responses((status = 200, description = "All of its events", body = Page<AuditRowSchema>), RefusalsOfOne),
    security(("bearer" = []))
)]
pub(crate) async fn list_tool_call_events(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    id: Result<PathId, Problem>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<NoParameters>, Problem>,
) -> Result<Json<Page<AuditRow>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    parameters?;
    let (tenant, call) = (principal.tenant_id, CallId(id?.0));
    let mut events = find(&state, tenant, call).await?;
    if events.is_empty() {
        state.catch_up(tenant, call).await?;
        events = find(&state, tenant, call).await?;
    }
    if events.is_empty() { Err(Problem::not_found()) } else { Ok(Json(Page::whole(events))) }
}

async fn find(state: &State, tenant: TenantId, call: CallId) -> Result<Vec<AuditRow>, Error> {
    let mut tx = TenantTx::begin(&state.pool, tenant).await?;
    let mut events = audit::of_call(&mut tx, &state.segments, call).await?;
    tx.end().await?;
    open_rows(state.log.keys(), tenant, &mut events).await?;
    Ok(events)
}
