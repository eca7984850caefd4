//! The hands: workers take requested calls lane by lane, run the tool's adapter, and append the outcome.
//!
//! A worker never calls the APIs and appends nothing but claims and outcomes.

mod adapters;
mod answers;
mod attempt;
mod breaker;
mod cache;
mod call;
mod claim;
mod held;
mod mcp;
mod metrics;
mod places;
mod record;
mod retry;
mod runtime;
mod webhook;

use std::{collections::BTreeMap, time::Duration};

use prometheus_client::registry::Registry;
use secrecy::SecretString;
use toolgate_events::{Catalog, Lane};
use toolgate_security::{Egress, ReadPool, Redactor};
use toolgate_store::{Artifacts, Clock, ConsumeError, Discovered, Log};

pub use cache::ResultCache;
pub use mcp::{Mcp, McpOptions, McpServer, McpTransport, Pattern};
pub use runtime::Worker;
pub use webhook::Webhook;

/// What a worker is made of.
#[derive(Clone, Debug)]
pub struct Options {
    pub lanes: Vec<Lane>,
    /// Calls run at once, per lane.
    pub lane_concurrency: usize,
    /// The same for single lanes.
    pub lane_concurrency_by_lane: BTreeMap<String, usize>,
    /// How long a circuit breaker stays open at first.
    pub circuit_open: Duration,
    /// How long a call may go without a sign of life before another worker gets it.
    pub ack_wait: Duration,
    /// Whom outcomes of tasks are told; nobody when absent.
    pub webhook: Option<Webhook>,
}

/// Where `basehub.query` asks, and as whom.
#[derive(Clone, Debug)]
pub struct BaseHub {
    pub url: String,
    pub token: SecretString,
}

/// What adapters and the runtime work with.
#[derive(Clone, Debug)]
pub struct Environment {
    pub log: Log,
    pub catalog: Catalog,
    /// What keeps the catalog up to date.
    pub discovered: Discovered,
    pub database: ReadPool,
    pub artifacts: Artifacts,
    /// The only way to anybody outside.
    pub egress: Egress,
    /// How many numbers one search for vectors may compare: vectors times dimensions.
    pub vector_max_components: usize,
    /// Absent where the operator has set none up.
    pub basehub: Option<BaseHub>,
    /// Results that may answer later calls.
    pub results: ResultCache,
    /// Upstream MCP servers, which are outside too.
    pub mcp: Mcp,
    /// What outcomes must not hold.
    pub redactor: Redactor,
    pub clock: Clock,
}

impl Options {
    fn concurrency_of(&self, lane: &Lane) -> usize {
        self.lane_concurrency_by_lane.get(lane.as_str()).copied().unwrap_or(self.lane_concurrency)
    }
}

impl Worker {
    /// Sets the consumers up, so that what goes wrong goes wrong at the start.
    ///
    /// # Errors
    /// [`ConsumeError`]
    pub async fn open(environment: Environment, options: Options, registry: &mut Registry) -> Result<Self, ConsumeError> {
        Self::new(environment, options, metrics::Metrics::register(registry)).await
    }
}
