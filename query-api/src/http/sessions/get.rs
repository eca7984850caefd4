use axum::{Json, extract};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use toolgate_events::{CallId, serde_text};
use toolgate_security::{Accepts, Authenticated, PathName, Problem, Query, media};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::SessionSummary;
use crate::{
    Error, State,
    as_of::{self, AsOf},
    catch_up::Positioned,
    http::refusals::RefusalsOfOne,
    queries::sessions::{self, Failure, Made, Told},
};

/// A session with its tools, its failures and what it made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionDetail {
    #[serde(flatten)]
    session: SessionSummary,
    /// By name.
    tools: Vec<SessionTool>,
    /// The newest 20, newest first.
    errors: Vec<SessionError>,
    /// The newest 20, newest first; all of them are results of `/v1/tool-calls?session_id=&tool=document.render`.
    artifacts: Vec<SessionArtifact>,
    /// The newest 20, newest first; all of them are results of `/v1/tool-calls?session_id=&tool=task.create`.
    tasks: Vec<SessionTask>,
}

/// What came of the calls of one tool.
#[derive(Debug, Serialize, ToSchema)]
struct SessionTool {
    tool: String,
    calls: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    cached: u64,
    attempts: u64,
    /// How long it ran in all, in milliseconds.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    duration_ms: u64,
    /// How long the longest run took, in milliseconds.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    max_duration_ms: u64,
}

/// A call that failed. Its details are the call's own.
#[derive(Debug, Serialize, ToSchema)]
struct SessionError {
    #[schema(value_type = Uuid)]
    call_id: CallId,
    tool: String,
    #[schema(example = "urn:toolgate:tool:timeout")]
    r#type: String,
    title: String,
    #[serde(with = "serde_text::timestamp")]
    occurred_at: DateTime<Utc>,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
}

/// An artifact, and the call that made it.
#[derive(Debug, Serialize, ToSchema)]
struct SessionArtifact {
    artifact_id: Uuid,
    #[schema(value_type = Uuid)]
    call_id: CallId,
    #[serde(with = "serde_text::timestamp")]
    created_at: DateTime<Utc>,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
}

/// A task, and the call that made it.
#[derive(Debug, Serialize, ToSchema)]
struct SessionTask {
    task_id: Uuid,
    #[schema(value_type = Uuid)]
    call_id: CallId,
    #[serde(with = "serde_text::timestamp")]
    created_at: DateTime<Utc>,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
}

impl SessionDetail {
    fn of(session_id: String, told: Told) -> Self {
        let Told { session, errors, artifacts, tasks } = told;
        let summary = SessionSummary::of(session_id, &session);
        let tools = session.tools.into_iter().map(|(tool, counts)| SessionTool {
            tool,
            calls: counts.calls,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            cached: counts.cached,
            attempts: counts.attempts,
            duration_ms: counts.duration_ms,
            max_duration_ms: counts.max_duration_ms,
        });
        let error = |Failure { call_id, tool, kind, title, at, position }| SessionError {
            call_id,
            tool,
            r#type: kind,
            title,
            occurred_at: at,
            position,
        };
        let artifact =
            |Made { id, call_id, at, position }| SessionArtifact { artifact_id: id, call_id, created_at: at, position };
        let task = |Made { id, call_id, at, position }| SessionTask { task_id: id, call_id, created_at: at, position };
        Self {
            session: summary,
            tools: tools.collect(),
            errors: errors.into_iter().map(error).collect(),
            artifacts: artifacts.into_iter().map(artifact).collect(),
            tasks: tasks.into_iter().map(task).collect(),
        }
    }
}

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

/// A session
///
/// A session exists as soon as a call names it in `session_id`. With `as_of` the answer is what its events up to there come to;
/// a time stands for everything before the first event of the tenant that occurred later. At most 50,000 events of a session are
/// added up: a place that has more of them before it is 400, and what takes longer than 15 seconds is 503.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session_id}",
    tag = "read-models",
    params(("session_id" = String, Path, description = "Percent-encoded"), Parameters),
    responses((status = 200, description = "The session", body = SessionDetail), RefusalsOfOne),
    security(("bearer" = []))
)]
pub(crate) async fn get_session(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    id: Result<PathName, Problem>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Positioned<Json<SessionDetail>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let as_of = parameters.as_of.as_deref().map(AsOf::parse).transpose()?;
    let PathName(id) = id?;
    if id.contains('\0') {
        return Err(Problem::not_found());
    }

    let mut reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let Positioned { answer: told, position } = match as_of {
        None => {
            let told = sessions::tell(&mut reading, &id).await?;
            reading.end(told).await?
        }
        Some(as_of) => {
            let reading = state.go_back(reading, as_of).await?;
            let position = reading.position;
            Positioned { answer: as_of::session(&state, reading, &id).await?, position }
        }
    };
    let told = told.ok_or(Error::NotFound)?;
    Ok(Positioned { answer: Json(SessionDetail::of(id, told)), position })
}
