use axum::{
    extract::State,
    response::{Response, sse::Event},
};
use chrono::TimeDelta;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;
use toolgate_events::{CallLinks, Event as DomainEvent, ToolCallEvent, tools::Contract};
use toolgate_security::{
    Accepts, Admitted, CloudEvent, EventSource, Problem, RequestContext, Standing, StrictJson, event_frame, media,
};

use super::{
    BodySchema,
    refusals::Refusals,
    request_tool_call::{Asked, Body, IDEMPOTENCY_REPLAYED, Request, command_of, refusal},
};
use crate::commands::{
    follow_tool_call::{Ear, Followed, FollowedCall},
    request_tool_call::{self as command, RequestToolCall},
};

/// Request a tool call and follow it (SSE)
///
/// The body, the checks and the limits are those of `POST /v1/tool-calls`; what is refused is refused before the first byte. The answer
/// is the call's events from its first to its outcome, and then ends. Frames are those of `GET /v1/events`; where a position is not
/// known in time, `id` and `position` are left out. Whoever hangs up leaves the call to go on: the same `Idempotency-Key` follows it
/// from its first event again. `event: unauthorized` says that the token no longer counts or no longer allows it.
#[utoipa::path(
    post,
    path = "/v1/agent-stream",
    operation_id = "follow_tool_call",
    tag = "tool-calls",
    request_body = BodySchema,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters, bare or quoted; scope: tenant, principal and tool"),
        ("Data-Subject" = Option<String>, Header, description = "Whom the content is about: 1 to 128 printable ASCII characters. It is sealed under a key of theirs, which can be destroyed; the id itself is not kept"),
    ),
    responses(
        (
            status = 200,
            description = "The call's events until its outcome",
            body = CloudEvent<'_>,
            content_type = "text/event-stream",
            headers(
                ("Location" = String, description = "The call"),
                ("Idempotency-Replayed" = String, description = "`true` when the call was there before"),
            ),
        ),
        Refusals,
    ),
    security(("bearer" = [])),
)]
pub async fn handler(
    State(state): State<crate::State>,
    admitted: Admitted,
    context: RequestContext,
    accepts: Result<Accepts<media::EventStream>, Problem>,
    headers: HeaderMap,
    StrictJson(body): StrictJson<Body>,
) -> Result<Response, Problem> {
    let asked = Asked::of(&state, admitted.principal(), &body.tool)?;
    let request = Request { context, accepts: accepts.map(drop), headers, body };
    let answer = follow(&state, &admitted, request, asked.contract).await;
    asked.answered(&state, answer, |_| "accepted")
}

async fn follow(
    state: &crate::State,
    admitted: &Admitted,
    request: Request,
    contract: &'static Contract,
) -> Result<Response, Problem> {
    let command = RequestToolCall { is_followed: true, ..command_of(state, admitted, request, contract).await? };
    let (tenant, call, lane) = (command.tenant_id, command.call_id, command.request.lane.clone());
    // Before the call is accepted, so that nothing is accepted which then cannot be followed.
    let place = state.streams.place_for(tenant)?;
    let ear = Ear::open(state, tenant, call);
    let accepted = command::handle(state, command).await.map_err(|error| refusal(admitted, contract, error))?;

    let followed = FollowedCall::new(state, tenant, lane, call, ear);
    let standing = Standing::new(&state.guard, admitted.shared_principal(), contract.permission.clone(), TimeDelta::zero());
    let mut response = state.streams.open(place, standing, Frames { followed, session_id: None, last: None });
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(&CallLinks::of(call).own).map_err(|_| Problem::internal())?;
    headers.insert(header::LOCATION, location);
    if accepted.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A call's events as frames.
struct Frames {
    followed: FollowedCall,
    /// As the first event says.
    session_id: Option<Arc<str>>,
    last: Option<u64>,
}

impl EventSource for Frames {
    async fn next(&mut self) -> Option<Event> {
        let followed = self.followed.next().await?;
        Some(self.frame(&followed))
    }

    fn resume_after(&self) -> Option<u64> {
        self.last
    }
}

impl Frames {
    fn frame(&mut self, followed: &Followed) -> Event {
        let Followed { envelope, position } = followed;
        if let Ok(DomainEvent::ToolCall(ToolCallEvent::ToolCallRequested(request))) = envelope.event() {
            self.session_id = request.session_id.as_deref().map(Arc::from);
        }
        self.last = position.or(self.last);
        let event = CloudEvent::of_envelope(envelope, self.session_id.as_deref(), *position);
        // An envelope that was read can be written.
        let json = serde_json::to_string(&event).unwrap_or_default();
        event_frame(*position, &envelope.event_type, &json)
    }
}
