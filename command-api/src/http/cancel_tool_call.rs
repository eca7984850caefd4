use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use toolgate_events::CallId;
use toolgate_security::{Accepts, Authenticated, PathId, Problem, ProblemDocument, RequestContext, media};

use super::{CallSchema, view};
use crate::commands::cancel_tool_call::{self as command, CancelToolCall};

/// Cancel a tool call
///
/// Calls off what has no outcome yet. A worker that is already running it can no longer record one.
#[utoipa::path(
    post,
    path = "/v1/tool-calls/{call_id}/cancel",
    operation_id = "cancel_tool_call",
    tag = "tool-calls",
    params(("call_id" = uuid::Uuid, Path)),
    responses(
        (status = 202, description = "Cancelled", body = CallSchema),
        (status = 401, description = "No valid token", body = ProblemDocument<'_>, content_type = "application/problem+json"),
        (status = 403, description = "The token does not allow this", body = ProblemDocument<'_>, content_type = "application/problem+json"),
        (status = 404, description = "No such call", body = ProblemDocument<'_>, content_type = "application/problem+json"),
        (status = 406, description = "Accept excludes application/json", body = ProblemDocument<'_>, content_type = "application/problem+json"),
        (status = 409, description = "It already has an outcome", body = ProblemDocument<'_>, content_type = "application/problem+json"),
        (status = 429, description = "Over the tenant's limit; see `Retry-After`", body = ProblemDocument<'_>, content_type = "application/problem+json"),
        (status = 503, description = "The log did not confirm it", body = ProblemDocument<'_>, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub async fn handler(
    State(state): State<crate::State>,
    Authenticated(principal): Authenticated,
    context: RequestContext,
    id: Result<PathId, Problem>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
) -> Result<Response, Problem> {
    state.authorize(&principal, None, "tool_call:cancel")?;
    accepts?;
    let call_id = CallId(id?.0);
    let cancel = CancelToolCall {
        tenant_id: principal.tenant_id,
        call_id,
        principal: principal.subject.clone(),
        trace_context: context.trace_context(),
    };
    let cancelled = command::handle(&state, cancel).await?;
    let view = view(call_id, cancelled).ok_or_else(Problem::internal)?;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}
