//! Tools of upstream MCP servers.

mod contracts;
mod definitions;
mod discovery;
mod isolation;
mod pinning;
mod published;
pub mod upstream;
mod workers;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::process::Command;
use toolgate::settings::{Settings, mcp::McpServerSettings};

use crate::app::{Client, Stack, TestApp, eventually};

use upstream::Upstream;

/// A tool that takes a text.
pub fn tool(name: &str, description: &str) -> Value {
    json!({
        "name": name, "description": description, "annotations": {"readOnlyHint": true},
        "inputSchema": {
            "type": "object", "properties": {"text": {"type": "string", "maxLength": 10}},
            "required": ["text"], "additionalProperties": false,
        },
    })
}

/// A call of it.
pub fn call(tool: &str) -> Value {
    json!({"tool": tool, "arguments": {"text": "hello"}})
}

/// An application with these servers, asked for their tools every second.
async fn app_with(servers: &[(&str, McpServerSettings)]) -> TestApp {
    TestApp::start_with(|settings| configure(settings, servers)).await
}

pub fn configure(settings: &mut Settings, servers: &[(&str, McpServerSettings)]) {
    settings.mcp = servers.iter().map(|(name, server)| ((*name).to_owned(), server.clone())).collect();
    settings.mcp_refresh_seconds = 1;
    settings.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
}

/// The contract of a tool, once it is offered.
pub async fn offered(client: &Client, tool: &str) -> Value {
    eventually(&format!("{tool} is offered"), async || listed(client).await.into_iter().find(|contract| contract["name"] == tool))
        .await
}

/// Every upstream tool that is offered.
async fn listed(client: &Client) -> Vec<Value> {
    let tools = client.get("/v1/tools").await.json();
    let is_upstream = |contract: &&Value| contract["upstream"].is_object();
    tools["items"].as_array().unwrap().iter().filter(is_upstream).cloned().collect()
}

/// The names of those, once there are as many as expected.
async fn names(client: &Client, expected: &[&str]) {
    eventually(&format!("{expected:?} are offered, and nothing else"), async || {
        let names: Vec<_> = listed(client).await.iter().map(|contract| contract["name"].as_str().unwrap().to_owned()).collect();
        (names == expected).then_some(())
    })
    .await;
}

/// Runs `toolgate mcp` as an operator does: whether it succeeded, and what it said.
async fn toolgate_mcp(stack: &Stack, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command.arg("mcp").args(arguments).env("NATS_URL", stack.connections.nats.expose_secret()).env("USER", "ada");
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}
