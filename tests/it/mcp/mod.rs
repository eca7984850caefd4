//! Tools of upstream MCP servers.

mod discovery;
mod upstream;

use serde_json::{Value, json};
use toolgate::settings::{Settings, mcp::McpServerSettings};

use crate::app::{Client, TestApp, eventually};

pub use upstream::Upstream;

/// A tool that takes a text.
fn tool(name: &str, description: &str) -> Value {
    json!({
        "name": name, "description": description, "annotations": {"readOnlyHint": true},
        "inputSchema": {
            "type": "object", "properties": {"text": {"type": "string", "maxLength": 10}},
            "required": ["text"], "additionalProperties": false,
        },
    })
}

/// An application with these servers, asked for their tools every second.
async fn app_with(servers: &[(&str, McpServerSettings)]) -> TestApp {
    TestApp::start_with(|settings| configure(settings, servers)).await
}

fn configure(settings: &mut Settings, servers: &[(&str, McpServerSettings)]) {
    settings.mcp = servers.iter().map(|(name, server)| ((*name).to_owned(), server.clone())).collect();
    settings.mcp_refresh_seconds = 1;
    settings.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
}

/// The contract of a tool, once it is offered.
async fn offered(client: &Client, tool: &str) -> Value {
    eventually(&format!("{tool} is offered"), async || listed(client).await.into_iter().find(|contract| contract["name"] == tool))
        .await
}

/// Every upstream tool that is offered.
async fn listed(client: &Client) -> Vec<Value> {
    let tools = client.get("/v1/tools").await.json();
    let is_upstream = |contract: &&Value| contract["upstream"].is_object();
    tools["items"].as_array().unwrap().iter().filter(is_upstream).cloned().collect()
}
