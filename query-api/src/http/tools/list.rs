use axum::{Json, extract};
use toolgate_events::tools::Contract;
use toolgate_security::{Accepts, Authenticated, Problem, Query, media};

use super::{ToolSchema, may_invoke};
use crate::{
    State,
    http::{
        page::{NoParameters, Page},
        refusals::Refusals,
    },
};

/// The tools the caller may invoke
#[utoipa::path(
    get,
    path = "/v1/tools",
    tag = "tools",
    responses((status = 200, description = "All of them", body = Page<ToolSchema>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn list_tools(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<NoParameters>, Problem>,
) -> Result<Json<Page<&'static Contract>>, Problem> {
    state.guard.authorize(&principal, "tool:list")?;
    accepts?;
    parameters?;
    let allowed = state.catalog.all().into_iter().filter(|contract| may_invoke(&state, &principal, contract));
    Ok(Json(Page::whole(allowed.collect())))
}
