//! The way in: a request becomes a command, the command an event, and the log's acknowledgement the answer.
//!
//! This crate reads and writes nothing but the log: no SQL, no read models, no rules (those are the aggregate's).

mod commands;
mod http;
mod metrics;
mod refusals;
mod validators;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use toolgate_security::{Decision, Guard, Principal, Problem};
use toolgate_store::{Announcements, Clock, Log, LogError, Replies};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use refusals::Refusals;

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
    refusals: Refusals,
}

impl State {
    /// # Errors
    /// When the subscription for outcomes cannot be made.
    pub async fn open(guard: Guard, log: Log, clock: Clock, registry: &mut Registry) -> Result<Self, LogError> {
        let replies = Arc::new(Replies::open(&log).await?);
        let announcements = Announcements::open(&log).await?;
        let metrics = Metrics::register(registry);
        let refusals = Refusals::open(log.clone(), clock, registry);
        Ok(Self { guard, log, clock, replies, announcements, validators: Arc::new(Validators::compile()), metrics, refusals })
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
    routes().with_state(state)
}

/// The description of this API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(http::request_tool_call::handler))
        .routes(routes!(http::cancel_tool_call::handler))
        // A second name for the same endpoint.
        .route("/tool-call", axum::routing::post(http::request_tool_call::handler))
}
