use axum::{extract, response::Response};
use http::HeaderMap;
use serde::Deserialize;
use toolgate_security::{Accepts, Authenticated, CloudEvent, PathName, Problem, Query, media};
use utoipa::IntoParams;

use crate::{
    State,
    http::{
        events::{last_event_id, open},
        refusals::RefusalsOfOne,
    },
    stream::ClientFilter,
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The position to begin after; without it, and without `Last-Event-ID`, the stream begins now.
    #[param(value_type = Option<String>)]
    after: Option<u64>,
}

/// A session's events, live and from any position (SSE)
///
/// As `/v1/events?session_id=`. A session needs no making, so one in which nothing has happened yet has a stream as well: it waits
/// for the first call.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session_id}/events",
    tag = "events",
    params(
        ("session_id" = String, Path, description = "Percent-encoded"),
        Parameters,
        ("Last-Event-ID" = Option<String>, Header, description = "Resumes after this position; wins over `after`")
    ),
    responses(
        (status = 200, description = "An endless stream", content_type = "text/event-stream", body = CloudEvent<'_>),
        RefusalsOfOne
    ),
    security(("bearer" = []))
)]
pub(crate) async fn subscribe_session_events(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    id: Result<PathName, Problem>,
    accepts: Result<Accepts<media::EventStream>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.guard.authorize(&principal, "event:subscribe")?;
    accepts?;
    let Query(parameters) = parameters?;
    let PathName(id) = id?;
    if id.contains('\0') {
        return Err(Problem::not_found());
    }
    let asked = last_event_id(&headers)?.or(parameters.after);
    let filter = ClientFilter { session_id: Some(id), ..ClientFilter::default() };
    open(&state, principal, filter, asked).await
}
