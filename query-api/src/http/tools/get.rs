use axum::{Json, extract};
use toolgate_events::tools::Contract;
use toolgate_security::{Accepts, Authenticated, PathName, Problem, Query, media};

use super::{ToolSchema, may_invoke};
use crate::{
    State,
    http::{page::NoParameters, refusals::RefusalsOfOne},
};

/// A tool's contract
///
/// A tool that the caller may not invoke is as unknown as one that does not exist.
#[utoipa::path(
    get,
    path = "/v1/tools/{name}",
    tag = "tools",
    params(("name" = String, Path)),
    responses((status = 200, description = "The contract", body = ToolSchema), RefusalsOfOne),
    security(("bearer" = []))
)]
pub(crate) async fn get_tool(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    name: Result<PathName, Problem>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<NoParameters>, Problem>,
) -> Result<Json<&'static Contract>, Problem> {
    state.guard.authorize(&principal, "tool:list")?;
    accepts?;
    parameters?;
    let contract = state.catalog.find(&name?.0).filter(|contract| may_invoke(&state, &principal, contract));
    contract.map(Json).ok_or_else(Problem::not_found)
}
