use axum::{
    body::Body,
    extract,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream;
use http::header;
use serde::Deserialize;
use toolgate_events::CallId;
use toolgate_security::{Accepts, Authenticated, LEEWAY, Lost, Place, Problem, Query, Standing, media};
use utoipa::IntoParams;
use uuid::Uuid;

use super::AuditRowSchema;
use crate::{
    AuditExport, Error, State,
    audit_export::History,
    catch_up::Positioned,
    http::{page::check_text, refusals::Refusals},
    queries::audit::{AuditFilter, Stretch},
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The position to begin after.
    #[param(value_type = Option<String>)]
    after: Option<u64>,
    call_id: Option<Uuid>,
    actor: Option<String>,
    /// An event type.
    r#type: Option<String>,
    /// Events that occurred at this time or later.
    from: Option<DateTime<Utc>>,
    /// Events that occurred before this time.
    to: Option<DateTime<Utc>>,
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
}

/// The audit trail as NDJSON
///
/// Everything up to the newest row at the time of the request, one row a line in its canonical form, which `toolgate audit verify`
/// checks (docs/audit/format.md). An export that cannot be finished, or whose
/// token is revoked or ends meanwhile, is cut off, so that no client takes a part for the whole.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    tag = "audit",
    params(Parameters),
    responses(
        (status = 200, description = "The rows, ascending", content_type = "application/x-ndjson", body = AuditRowSchema),
        Refusals
    ),
    security(("bearer" = []))
)]
pub(crate) async fn export_audit(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::NdJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Response, Problem> {
    state.guard.authorize(&principal, "audit:export")?;
    accepts?;
    let Query(parameters) = parameters?;
    check_text([("actor", parameters.actor.as_deref()), ("type", parameters.r#type.as_deref())])?;
    let filter = AuditFilter {
        call_id: parameters.call_id.map(CallId),
        actor: parameters.actor,
        event_type: parameters.r#type,
        from: parameters.from,
        to: parameters.to,
        ..AuditFilter::default()
    };
    let place = state.streams.place_for(principal.tenant_id)?;
    let reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let Positioned { position, .. } = reading.end(()).await?;
    let stretch = Stretch { after: parameters.after.unwrap_or(0), up_to: position };
    let history = History { pool: state.pool, segments: state.segments, tenant: principal.tenant_id };
    // It ends when the token would not be accepted any more.
    let standing = Standing::new(&state.guard, principal, "audit:export", LEEWAY);
    let export = Export { export: AuditExport::of(history, filter, stretch), standing, _place: place };
    let lines = stream::try_unfold(export, |mut export| async move {
        let lines = export.next_lines().await.inspect_err(|cut| tracing::warn!(error = %cut, "an export was cut off"))?;
        Ok::<_, Cut>(lines.map(|lines| (lines, export)))
    });
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CONTENT_DISPOSITION, r#"attachment; filename="audit.ndjson""#)];
    Ok(Positioned { answer: (headers, Body::from_stream(lines)), position }.into_response())
}

/// Why an export ends before its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Failed(#[from] Error),
}

/// An export for as long as its reader may have it.
struct Export {
    export: AuditExport,
    standing: Standing,
    _place: Place,
}

impl Export {
    async fn next_lines(&mut self) -> Result<Option<Bytes>, Cut> {
        self.standing.check()?;
        tokio::select! {
            biased;
            lost = self.standing.lost() => Err(lost.into()),
            lines = self.export.next_lines() => Ok(lines?),
        }
    }
}
