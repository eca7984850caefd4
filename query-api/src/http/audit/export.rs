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
use toolgate_events::{CallId, TenantId, audit::AuditRow};
use toolgate_security::{Accepts, Authenticated, LEEWAY, Place, Problem, Query, ReadPool, TenantTx, media};
use utoipa::IntoParams;
use uuid::Uuid;

use super::AuditRowSchema;
use crate::{
    Error, State,
    http::{page::check_text, refusals::Refusals},
    queries::{
        archive::Segments,
        audit::{self, AuditFilter, Stretch},
        positions,
    },
    stream::{Lost, Standing},
};

/// Rows read, and held, at once.
const PAGE: usize = 100;

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
}

/// The audit trail as NDJSON
///
/// Everything up to the newest row at the time of the request, one row a line. An export that cannot be finished, or whose
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
    };
    let place = state.streams.take_for(principal.tenant_id)?;
    let history = History { pool: state.pool, segments: state.segments, tenant: principal.tenant_id };
    // It ends when the token would not be accepted any more.
    let standing = Standing::new(&state.guard, principal, "audit:export", LEEWAY);
    let export = Export::begin(history, filter, parameters.after.unwrap_or(0), standing, place).await?;
    let lines = stream::try_unfold(export, |mut export| async move {
        let lines = export.next_lines().await.inspect_err(|cut| tracing::warn!(error = %cut, "an export was cut off"))?;
        Ok::<_, Cut>(lines.map(|lines| (lines, export)))
    });
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CONTENT_DISPOSITION, r#"attachment; filename="audit.ndjson""#)];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Why an export ends before its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Where the rows are.
struct History {
    pool: ReadPool,
    segments: Segments,
    tenant: TenantId,
}

/// An export under way: one page in memory, never a transaction across pages.
struct Export {
    history: History,
    filter: AuditFilter,
    /// What is still to be read; none after the last page.
    left: Option<Stretch>,
    standing: Standing,
    _place: Place,
}

impl Export {
    async fn begin(history: History, filter: AuditFilter, after: u64, standing: Standing, place: Place) -> Result<Self, Error> {
        let mut tx = TenantTx::begin(&history.pool, history.tenant).await?;
        let up_to = positions::newest(&mut tx).await?;
        tx.end().await?;
        Ok(Self { history, filter, left: Some(Stretch { after, up_to }), standing, _place: place })
    }

    async fn next_lines(&mut self) -> Result<Option<Bytes>, Cut> {
        let Some(stretch) = self.left else { return Ok(None) };
        self.standing.check()?;
        let (rows, has_more) = tokio::select! {
            biased;
            lost = self.standing.lost() => return Err(lost.into()),
            page = page(&self.history, &self.filter, stretch) => page?,
        };
        self.left = rows.last().filter(|_| has_more).map(|last| Stretch { after: last.position, ..stretch });
        Ok(Some(lines(&rows)?))
    }
}

async fn page(history: &History, filter: &AuditFilter, stretch: Stretch) -> Result<(Vec<AuditRow>, bool), Error> {
    let mut tx = TenantTx::begin(&history.pool, history.tenant).await?;
    let page = audit::page(&mut tx, &history.segments, filter, stretch, PAGE).await?;
    tx.end().await?;
    Ok(page)
}

fn lines(rows: &[AuditRow]) -> Result<Bytes, Error> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row).map_err(|error| sqlx::Error::Encode(error.into()))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
