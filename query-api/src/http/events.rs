use std::sync::Arc;

use axum::{extract, response::Response};
use chrono::TimeDelta;
use http::HeaderMap;
use serde::Deserialize;
use toolgate_events::CallId;
use toolgate_security::{Accepts, Authenticated, CloudEvent, Principal, Problem, Query, Standing, media};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{page::check_text, refusals::Refusals};
use crate::{
    Error, State,
    stream::{Client, ClientFilter},
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    session_id: Option<String>,
    call_id: Option<Uuid>,
    /// An event type.
    r#type: Option<String>,
    /// The position to begin after; without it, and without `Last-Event-ID`, the stream begins now.
    #[param(value_type = Option<String>)]
    after: Option<u64>,
}

/// The tenant's events, live and from any position (SSE)
///
/// Frames carry `id: <position>`, `event: <event type>` and a CloudEvent as `data`; a first one without data has only the
/// position that the stream begins after. `event: reset` says that the position asked
/// for lies beyond the newest, from which the stream goes on; `event: mode` whether events come at once or in bursts (safe mode), and
/// nothing is left out then; `event: unauthorized` that the token no longer counts or no longer
/// allows it. `/asyncapi.json` describes every event.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    params(Parameters, ("Last-Event-ID" = Option<String>, Header, description = "Resumes after this position; wins over `after`")),
    responses((status = 200, description = "An endless stream", content_type = "text/event-stream", body = CloudEvent<'_>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn subscribe_events(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::EventStream>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.guard.authorize(&principal, "event:subscribe")?;
    accepts?;
    let Query(parameters) = parameters?;
    check_text([("session_id", parameters.session_id.as_deref()), ("type", parameters.r#type.as_deref())])?;
    let asked = last_event_id(&headers)?.or(parameters.after);
    let filter = ClientFilter {
        call_id: parameters.call_id.map(CallId),
        session_id: parameters.session_id,
        event_type: parameters.r#type,
    };
    open(&state, principal, filter, asked).await
}

/// The stream of what passes `filter`, after the position asked for.
pub(super) async fn open(
    state: &State,
    principal: Arc<Principal>,
    filter: ClientFilter,
    asked: Option<u64>,
) -> Result<Response, Problem> {
    let place = state.streams.place_for(principal.tenant_id)?;
    let client = Client::begin(&state.feeds, principal.tenant_id, filter, asked).await?;
    let standing = Standing::new(&state.guard, principal, "event:subscribe", TimeDelta::zero());
    Ok(state.streams.open(place, standing, client))
}

pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    position.map(Some).ok_or(Error::LastEventId)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_last_event_id_is_a_position_or_an_error() {
        let read = |text: &'static str| {
            last_event_id(&HeaderMap::from_iter([("last-event-id".parse().unwrap(), HeaderValue::from_static(text))]))
        };
        assert_eq!(last_event_id(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read("42").unwrap(), Some(42));
        for bad in ["", "-1", "x", "1.5", "99999999999999999999"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
