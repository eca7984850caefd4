//! A server that hangs, dies or floods is its own trouble alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use toolgate::settings::mcp::McpServerSettings;

use super::{Upstream, app_with, call, offered, tool};
use crate::app::{Client, send, wait_until};

/// An outcome that is a failure of one kind.
async fn failure(client: &Client, key: &str, tool: &str) -> Value {
    let outcome = client.call_and_wait(key, &call(tool)).await.json();
    assert_eq!(outcome["status"], "failed", "{outcome}");
    outcome["error"].clone()
}

async fn is_up(client: &Client, server: &str) -> bool {
    let metrics = send(client.anonymous(reqwest::Method::GET, "/metrics")).await.text();
    metrics.contains(&format!("mcp_server_up{{server=\"{server}\"}} 1"))
}

#[tokio::test]
async fn a_server_that_hangs_leaves_the_lane_to_the_others() {
    let hanging = Upstream::new(&json!({"tools": [tool("wait", "")], "calls": {"wait": "hang"}}));
    let healthy = Upstream::new(&json!({"tools": [tool("echo", "")]}));
    let slow = McpServerSettings { timeout_ms: Some(20_000), ..hanging.stdio() };
    let app = app_with(&[("hanging", slow), ("healthy", healthy.stdio())]).await;
    let client = app.admin();
    offered(&client, "mcp.hanging.wait").await;
    offered(&client, "mcp.healthy.echo").await;
    // More than a tenant may have of the lane, each with so much time.
    let wait = json!({"tool": "mcp.hanging.wait", "arguments": {"text": "x"}, "options": {"timeout_ms": 8_000}});
    for number in 0..40 {
        assert_eq!(client.call(&format!("h{number}"), &wait).await.status, 202);
    }
    wait_until("as many run as a tenant may", async || hanging.seen("tools/call").len() == 4).await;
    let began = Instant::now();
    for number in 0..5 {
        let outcome = client.call_and_wait(&number.to_string(), &call("mcp.healthy.echo")).await.json();
        assert_eq!(outcome["status"], "succeeded", "{outcome}");
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let outcome = client.call_and_wait("h39", &wait).await.json();
    assert_eq!(outcome["status"], "failed", "{outcome}");
    // Who no longer waits says so.
    wait_until("the server hears of it", async || !hanging.seen("notifications/cancelled").is_empty()).await;
}

#[tokio::test]
async fn a_server_that_dies_is_started_again_and_a_dead_one_fails_at_once() {
    let script = json!({"tools": [tool("echo", ""), tool("die", "")], "calls": {"die": "die"}});
    let (dying, healthy) = (Upstream::new(&script), Upstream::new(&json!({"tools": [tool("echo", "")]})));
    let nowhere = McpServerSettings { command: Some("/nowhere/at-all".to_owned()), ..McpServerSettings::default() };
    let app = app_with(&[("dying", dying.stdio()), ("healthy", healthy.stdio()), ("nowhere", nowhere)]).await;
    let client = app.admin();
    offered(&client, "mcp.dying.echo").await;
    offered(&client, "mcp.healthy.echo").await;
    let error = failure(&client, "die", "mcp.dying.die").await;
    assert_eq!(error["type"], "urn:toolgate:tool:outcome-unknown", "{error}");
    client.result_of("mcp.healthy.echo", json!({"text": "x"})).await;
    wait_until("it is started again", async || dying.seen("initialize").len() >= 2 && is_up(&client, "dying").await).await;
    client.result_of("mcp.dying.echo", json!({"text": "x"})).await;
    // What cannot even list its tools is down, and says so at once.
    dying.follow(&json!({"tools": [], "list": "die"}));
    wait_until("it is down", async || !is_up(&client, "dying").await).await;
    let began = Instant::now();
    let error = failure(&client, "down", "mcp.dying.echo").await;
    assert_eq!(error["type"], "urn:toolgate:tool:upstream", "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    client.result_of("mcp.healthy.echo", json!({"text": "y"})).await;
    dying.follow(&script);
    wait_until("it is up again", async || is_up(&client, "dying").await).await;
    client.result_of("mcp.dying.echo", json!({"text": "z"})).await;
    assert!(!is_up(&client, "nowhere").await);
}

#[tokio::test]
async fn a_server_over_http_that_goes_away_comes_back() {
    let upstream = Upstream::new(&json!({"tools": [tool("echo", "")]}));
    let listening = upstream.listen().await;
    let port = listening.port;
    let app = app_with(&[("s", listening.http())]).await;
    let client = app.admin();
    offered(&client, "mcp.s.echo").await;
    drop(listening);
    wait_until("it is down", async || !is_up(&client, "s").await).await;
    let error = failure(&client, "down", "mcp.s.echo").await;
    assert_eq!(error["type"], "urn:toolgate:tool:upstream", "{error}");
    let _listening = upstream.listen_at(port).await;
    wait_until("it is up again", async || is_up(&client, "s").await).await;
    client.result_of("mcp.s.echo", json!({"text": "x"})).await;
}

#[tokio::test]
async fn a_flood_is_not_read_to_its_end() {
    const GIGABYTE: u64 = 1 << 30;
    let script = json!({"tools": [tool("flood", ""), tool("large", "")], "calls": {
        "flood": GIGABYTE, "large": {"content": [{"type": "text", "text": "x".repeat(300_000)}]},
    }});
    let (child, remote) = (Upstream::new(&script), Upstream::new(&script));
    let listening = remote.listen().await;
    let short = McpServerSettings { timeout_ms: Some(5_000), ..child.stdio() };
    let app = app_with(&[("child", short), ("remote", listening.http())]).await;
    let client = app.admin();
    for server in ["child", "remote"] {
        offered(&client, &format!("mcp.{server}.flood")).await;
        let error = failure(&client, &format!("l{server}"), &format!("mcp.{server}.large")).await;
        assert_eq!(error["type"], "urn:toolgate:tool:outcome-unknown", "{error}");
        let error = failure(&client, &format!("f{server}"), &format!("mcp.{server}.flood")).await;
        assert_eq!(error["type"], "urn:toolgate:tool:outcome-unknown", "{error}");
    }
}
