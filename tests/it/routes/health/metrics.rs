//! `GET /metrics`

use std::collections::HashMap;

use reqwest::Method;

use crate::app::{TestApp, post_mixed, send, task, task_titled, wait_until};

/// The samples of an OpenMetrics 1.0 text, by name and labels. Panics on what the format does not allow.
fn samples(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "no end marker");
    let mut samples = HashMap::new();
    let mut families = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (keyword, family) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            families.push(family.to_owned());
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let base = name.split('{').next().unwrap();
        assert!(families.iter().any(|family| base.starts_with(family.as_str())), "{line} belongs to no family");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "{name} appears twice");
    }
    samples
}

#[tokio::test]
async fn the_promised_metrics_are_there_and_carry_no_ids() {
    let app = TestApp::start().await;
    let client = app.admin();
    assert_eq!(post_mixed(&client, 8, 4, |_| ()).await.len(), 8);
    let first = client.call_and_wait("waited", &task()).await;
    client.call("waited", &task_titled("another")).await.problem(422, "idempotency-mismatch");
    client.get("/v1/events?after=x").await.problem(400, "invalid");
    client.get_projected(&first.json()).await;
    let get = async || send(client.anonymous(Method::GET, "/metrics")).await;
    wait_until("the log is measured, and compared with the trail", async || {
        let text = get().await.text();
        text.contains("lane_pending{") && text.contains("audit_chain_verified_position{")
    })
    .await;
    let answer = get().await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let text = answer.text();
    let samples = samples(&text);
    for name in [
        "tool_calls_by_tool_total{",
        "violations_total{",
        "command_duration_seconds_count{",
        "tool_duration_seconds_count{",
        "append_duration_seconds_count",
        "projection_lag_events{",
        "projection_lag_seconds{",
        "sse_clients",
        "lane_pending{",
        "lane_in_flight{",
        "log_bytes",
        "log_messages",
        "audit_chain_verified_position{",
        "parked_events{",
    ] {
        assert!(samples.keys().any(|sample| sample.starts_with(name)), "{name} is not in\n{text}");
    }
    let sum = |prefix: &str| samples.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum::<f64>();
    assert_eq!(sum("tool_calls_by_tool_total{"), 9.0);
    assert_eq!(sum("violations_total{kind=\"idempotency_mismatch\",tool=\"task.create\"}"), 1.0);
    assert!(!text.contains(&client.tenant.0.to_string()) && !text.contains(&first.call_id().to_string()), "{text}");
}

#[tokio::test]
async fn open_streams_are_counted_until_they_close() {
    let app = TestApp::start().await;
    let client = app.admin();
    let clients = async || {
        let text = send(client.anonymous(Method::GET, "/metrics")).await.text();
        samples(&text)["sse_clients"]
    };
    assert_eq!(clients().await, 0.0);
    let (mut one, two) = (client.events("", None).await, client.events("", None).await);
    one.frame().await.unwrap();
    assert_eq!(clients().await, 2.0);
    drop(two);
    // A server notices that a client is gone when it next writes to it.
    client.call("k", &task()).await;
    wait_until("the other stream is closed", async || clients().await == 1.0).await;
}
