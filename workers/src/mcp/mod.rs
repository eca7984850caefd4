//! Upstream MCP servers, one task each: it keeps a session, asks for the tools, and puts down what has changed. Calls go over the
//! sessions. A server that is down, slow or hostile keeps nothing but its own few places.

mod child;
mod config;
mod discovery;
mod http;
mod pace;
mod places;
mod server;
mod session;

use std::{collections::BTreeMap, sync::Arc, sync::atomic::AtomicI64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value};
use toolgate_events::{CallId, TenantId, tools::Upstream};
use toolgate_security::Redactor;
use toolgate_store::{Clock, Discovered};

pub use config::{McpServer, McpTransport, Pattern};

use self::{discovery::Discovery, server::Server};
use crate::adapters::ToolError;

/// Bytes of one message of a server at the most.
const MAX_MESSAGE: usize = 1024 * 1024;
/// What one server may have of the lane's places: an eighth that runs, and as many that wait.
const SHARE: usize = 8;

/// The servers of a worker. Clones share them, and the last one ends them.
#[derive(Clone, Debug, Default)]
pub struct Mcp(Arc<BTreeMap<String, Server>>);

/// How servers are kept.
#[derive(Clone, Copy, Debug)]
pub struct McpOptions {
    /// Between two questions for a server's tools, which show whether it is there.
    pub refresh: Duration,
    /// Whether a tool that nobody has seen before is pinned as it is.
    pub trust_first: bool,
    /// Calls that the lane runs at once.
    pub lane_concurrency: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: String,
}

/// Whether a server can be used, for the metrics.
#[derive(Clone, Debug)]
struct Up(Gauge<i64, AtomicI64>);

impl Mcp {
    /// Starts to keep sessions with `servers`.
    pub fn start(
        servers: Vec<McpServer>,
        options: McpOptions,
        discovered: Discovered,
        clock: Clock,
        redactor: &Redactor,
        registry: &mut Registry,
    ) -> Self {
        let ups: Family<ServerLabels, Gauge<i64, AtomicI64>> = Family::default();
        if !servers.is_empty() {
            registry.register("mcp_server_up", "Whether an upstream MCP server can be used", ups.clone());
        }
        let discovery = Arc::new(Discovery { discovered, clock, trust_first: options.trust_first });
        let places = (options.lane_concurrency / SHARE).max(1);
        let started = servers.into_iter().map(|server| {
            let name = server.name.clone();
            let up = Up(ups.get_or_create(&ServerLabels { server: name.clone() }).clone());
            up.set(false);
            (name, Server::start(server, Arc::clone(&discovery), redactor.clone(), options.refresh, places, up))
        });
        Self(Arc::new(started.collect()))
    }

    pub(crate) async fn call(
        &self,
        upstream: &Upstream,
        tenant: TenantId,
        call_id: CallId,
        arguments: Map<String, Value>,
    ) -> Result<CallToolResult, ToolError> {
        match self.0.get(&upstream.server) {
            Some(server) => server.call(upstream, tenant, call_id, arguments).await,
            None => Err(ToolError::Upstream { detail: "this worker does not know the MCP server".to_owned(), sent: false }),
        }
    }
}

impl Up {
    fn set(&self, up: bool) {
        self.0.set(up.into());
    }
}
