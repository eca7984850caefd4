//! The way in: a request becomes a command, the command an event, and the log's acknowledgement the answer.
//!
//! This crate reads and writes nothing but the log: no SQL, no read models, no rules (those are the aggregate's).

mod commands;
mod http;
mod metrics;
mod validators;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use toolgate_security::Guard;
use toolgate_store::{Announcements, Clock, Log, LogError, Replies};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{metrics::Metrics, validators::Validators};

/// What every handler works with.
#[derive(Clone, Debug)]
pub struct State {
    guard: Guard,
    log: Log,
    clock: Clock,
    replies: Arc<Replies>,
    announcements: Announcements,
    validators: Arc<Validators>,
    metrics: Metrics,
}

impl State {
    /// # Errors
    /// When the subscription for outcomes cannot be made.
    pub async fn open(guard: Guard, log: Log, clock: Clock, registry: &mut Registry) -> Result<Self, LogError> {
        let replies = Arc::new(Replies::open(&log).await?);
        let announcements = Announcements::open(&log).await?;
        let metrics = Metrics::register(registry);
        Ok(Self { guard, log, clock, replies, announcements, validators: Arc::new(Validators::compile()), metrics })
    }

    /// Why commands cannot be accepted at the moment.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn readiness(&self) -> Result<(), String> {
        if self.log.is_connected() { Ok(()) } else { Err("not connected to NATS".to_owned()) }
    }
}

impl axum::extract::FromRef<State> for Guard {
    fn from_ref(state: &State) -> Self {
        state.guard.clone()
    }
}

/// The routes of this API.
pub fn router(state: State) -> OpenApiRouter {
    routes().with_state(state)
}

/// The description of this API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

/// A second name for the endpoint that requests a call.
const SHORT_NAME: &str = "/tool-call";

fn routes() -> OpenApiRouter<State> {
    let mut routes = OpenApiRouter::new()
        .routes(routes!(http::request_tool_call::handler))
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
        let (router, document) = super::routes().split_for_parts();
        let described: BTreeSet<_> = document.paths.paths.keys().cloned().collect();
        assert_eq!(toolgate_security::paths_of(&router), described);
    }
}
