use axum::{Json, extract};
use serde::Deserialize;
use serde_json::Value;
use toolgate_security::{Accepts, Authenticated, Problem, Query, media};
use utoipa::IntoParams;

use super::SessionSummary;
use crate::{
    State,
    catch_up::Positioned,
    cursor::Scope,
    http::{
        page::{Page, limit},
        refusals::Refusals,
    },
    queries::sessions,
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
}

/// The tenant's sessions, newest activity first
///
/// A session in which something happens between two pages moves to the front, where a new first page shows it.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "read-models",
    params(Parameters),
    responses((status = 200, description = "A page of sessions", body = Page<SessionSummary>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn list_sessions(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Positioned<Json<Page<SessionSummary>>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let limit = limit(parameters.limit)?;
    let scope = Scope { tenant: principal.tenant_id, list: "sessions", filters: &Value::Null };
    let before = parameters.cursor.map_or(Ok(u64::MAX), |cursor| state.cursors.open(&scope, &cursor))?;

    let mut reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let rows = sessions::page(&mut reading, before, limit + 1).await?;
    let show = |(id, session): (String, _)| SessionSummary::of(id, &session);
    let page = Page::cut(rows, limit, show, |(_, last)| state.cursors.seal(&scope, last.position));
    Ok(reading.end(Json(page)).await?)
}
