use axum::{Json, extract};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toolgate_events::serde_text;
use toolgate_security::{Accepts, Authenticated, Problem, Query, media};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    page::{Page, limit},
    refusals::Refusals,
};
use crate::{
    State,
    catch_up::Positioned,
    cursor::Scope,
    queries::documents::{self, DocumentRow},
};

/// A document that tools rendered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Document {
    artifact_id: Uuid,
    /// The call that made it.
    call_id: Uuid,
    title: String,
    content_type: String,
    /// Bytes.
    size: u64,
    /// Of the artifact's bytes, lower-case hex.
    sha256: String,
    #[serde(with = "serde_text::timestamp")]
    created_at: DateTime<Utc>,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
    links: DocumentLinks,
}

/// Paths of the same origin.
#[derive(Debug, Serialize, ToSchema)]
struct DocumentLinks {
    artifact: String,
}

impl From<DocumentRow> for Document {
    fn from(row: DocumentRow) -> Self {
        let DocumentRow { artifact_id, call_id, title, content_type, size, sha256, created_at, position } = row;
        let links = DocumentLinks { artifact: format!("/v1/artifacts/{artifact_id}") };
        Self { artifact_id, call_id, title, content_type, size, sha256, created_at, position, links }
    }
}

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

/// The tenant's documents, newest first
#[utoipa::path(
    get,
    path = "/v1/documents",
    tag = "read-models",
    params(Parameters),
    responses((status = 200, description = "A page of documents", body = Page<Document>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn list_documents(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Positioned<Json<Page<Document>>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    let limit = limit(parameters.limit)?;
    let scope = Scope { tenant: principal.tenant_id, list: "documents", filters: &Value::Null };
    let before = parameters.cursor.map_or(Ok(u64::MAX), |cursor| state.cursors.open(&scope, &cursor))?;

    let mut reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let rows = documents::page(&mut reading, before, limit + 1).await?;
    let page = Page::cut(rows, limit, Document::from, |last| state.cursors.seal(&scope, last.position));
    Ok(reading.end(Json(page)).await?)
}
