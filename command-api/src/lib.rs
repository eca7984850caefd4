//! The way in: a request becomes a command, the command an event, and the log's acknowledgement the answer.
//!
//! This crate reads and writes nothing but the log: no SQL, no read models, no rules (those are the aggregate's).

mod commands;
mod description;
mod http;
mod metrics;
mod open_calls;
mod refusals;
mod validators;

use std::sync::Arc;

use axum::middleware;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use toolgate_events::Catalog;
use toolgate_security::{Admission, Decision, EventStreams, Guard, Principal, Problem, Refused, SharedSecret, admit_commands};
use toolgate_store::{Announcements, Clock, Log, LogError, Projected, Replies};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use description::schemas;
pub use refusals::Refusals;

use crate::{metrics::Metrics, open_calls::OpenCalls, validators::Validators};

/// What every handler works with.
#[derive(Clone, Debug)]
pub struct State {
    guard: Guard,
    admission: Admission,
    open_calls: OpenCalls,
    log: Log,
    catalog: Catalog,
    clock: Clock,
    replies: Arc<Replies>,
    announcements: Announcements,
    validators: Arc<Validators>,
    metrics: Metrics,
    refusals: Refusals,
    streams: EventStreams,
    basehub_webhook: Option<SharedSecret>,
}

/// How much a tenant may do.
#[derive(Debug)]
pub struct Limits {
    pub admission: Admission,
    /// Calls of one tenant without an outcome.
    pub max_open_calls: u64,
}

impl State {
    /// # Errors
    /// When the subscription for outcomes cannot be made.
    pub async fn open(
        guard: Guard,
        limits: Limits,
        log: Log,
        catalog: Catalog,
        clock: Clock,
        streams: EventStreams,
        registry: &mut Registry,
    ) -> Result<Self, LogError> {
        let Limits { admission, max_open_calls } = limits;
        let replies = Arc::new(Replies::open(&log).await?);
        let open_calls = OpenCalls::new(max_open_calls);
        let announced = open_calls.clone();
        let hear = move |projected: &Projected| announced.projected(projected, Instant::now());
        let announcements = Announcements::open_for(&log, hear).await?;
        let refusals = Refusals::open(log.clone(), clock, registry);
        let recorder = refusals.clone();
        let admission = admission.with_on_refused(Arc::new(move |principal: &Principal, refused: Refused| {
            let Refused { policy, tool, limit } = refused;
            recorder.rate_limited(principal.tenant_id, policy, tool, limit, Some(&principal.subject));
        }));
        let (metrics, validators) = (Metrics::register(registry), Arc::new(Validators::compile(&catalog)));
        Ok(Self {
            guard,
            admission,
            open_calls,
            log,
            catalog,
            clock,
            replies,
            announcements,
            validators,
            metrics,
            refusals,
            streams,
            basehub_webhook: None,
        })
    }

    /// Believes what BaseHub signs with this secret.
    #[must_use]
    pub fn with_basehub_webhook(self, basehub_webhook: Option<SharedSecret>) -> Self {
        Self { basehub_webhook, ..self }
    }

    /// Records what is still to be recorded: to be awaited after the last request was answered.
    pub async fn close(&self) {
        self.refusals.close().await;
    }

    /// Decides whether the principal may, and puts a denial on record. `tool` is the one it is about, where it is about one.
    fn authorize(&self, principal: &Principal, tool: Option<&'static str>, permission: &str) -> Result<Decision, Problem> {
        self.guard.decide(principal, permission).map_err(|denied| {
            self.refusals.denied(principal, tool, &denied);
            denied.into()
        })
    }

    /// Why commands cannot be accepted at the moment.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn readiness(&self) -> Result<(), String> {
        if !self.log.is_connected() {
            return Err("not connected to NATS".to_owned());
        }
        self.guard.verifier.readiness()
    }
}

impl axum::extract::FromRef<State> for Guard {
    fn from_ref(state: &State) -> Self {
        state.guard.clone()
    }
}

/// The routes of this API.
pub fn router(state: State) -> OpenApiRouter {
    let admission = middleware::from_fn_with_state(state.admission.clone(), admit_commands);
    routes().route_layer(admission).merge(webhooks()).with_state(state)
}

/// The description of this API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().merge(webhooks()).into_openapi()
}

/// What others tell us, who have no tokens: each message is signed.
fn webhooks() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(http::basehub_webhook::handler))
}

/// A second name for the endpoint that requests a call.
const SHORT_NAME: &str = "/tool-call";

fn routes() -> OpenApiRouter<State> {
    let mut routes = OpenApiRouter::new()
        .routes(routes!(http::request_tool_call::handler))
        .routes(routes!(http::agent_stream::handler))
        .routes(routes!(http::cancel_tool_call::handler))
        .route(SHORT_NAME, axum::routing::post(http::request_tool_call::handler));
    let paths = &mut routes.get_openapi_mut().paths.paths;
    // Described alike, under an id of its own.
    if let Some(mut item) = paths.get("/v1/tool-calls").cloned() {
        if let Some(operation) = &mut item.post {
            operation.operation_id = Some("request_tool_call_by_short_name".to_owned());
        }
        paths.insert(SHORT_NAME.to_owned(), item);
    }
    routes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described() {
        let (router, document) = super::routes().merge(super::webhooks()).split_for_parts();
        let described: BTreeSet<_> = document.paths.paths.keys().cloned().collect();
        assert_eq!(toolgate_security::paths_of(&router), described);
    }
}
