use axum::{Json, extract};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use toolgate_events::{CallId, audit::AuditRow};
use toolgate_security::{Accepts, Authenticated, Problem, Query, media};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::AuditRowSchema;
use crate::{
    State,
    catch_up::Positioned,
    http::{
        page::{Page, check_text, limit},
        refusals::Refusals,
    },
    opening::open_rows,
    queries::audit::{self, AuditFilter, Stretch},
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The position to begin after.
    #[param(value_type = Option<String>)]
    after: Option<u64>,
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    call_id: Option<Uuid>,
    actor: Option<String>,
    /// An event type.
    r#type: Option<String>,
    /// Events that occurred at this time or later.
    from: Option<DateTime<Utc>>,
    /// Events that occurred before this time.
    to: Option<DateTime<Utc>>,
    /// `recorded`: sealed, as the hash is over it. `open`: as it was said.
    #[param(inline, default = "recorded")]
    content: Option<Content>,
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
}

/// In which form content is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    Recorded,
    Open,
}

/// The audit trail, ascending
///
/// `next_cursor` is the value for `after`.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "audit",
    params(Parameters),
    responses((status = 200, description = "A page of rows", body = Page<AuditRowSchema>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn list_audit(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Positioned<Json<Page<AuditRow>>>, Problem> {
    state.guard.authorize(&principal, "audit:read")?;
    accepts?;
    let Query(parameters) = parameters?;
    check_text([("actor", parameters.actor.as_deref()), ("type", parameters.r#type.as_deref())])?;
    let limit = limit(parameters.limit)?;
    let stretch = Stretch::after(parameters.after.unwrap_or(0));
    let filter = AuditFilter {
        call_id: parameters.call_id.map(CallId),
        actor: parameters.actor,
        event_type: parameters.r#type,
        from: parameters.from,
        to: parameters.to,
        ..AuditFilter::default()
    };

    let reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let position = reading.position;
    let (mut items, has_more) = audit::page(reading.into(), &state.segments, &filter, stretch, limit).await?;
    if parameters.content == Some(Content::Open) {
        open_rows(state.log.keys(), principal.tenant_id, &mut items).await?;
    }
    let next_cursor = items.last().filter(|_| has_more).map(|last| last.position.to_string());
    Ok(Positioned { answer: Json(Page { items, next_cursor }), position })
}
