//! Safe mode: events in bursts, none lost, switched by hand or by lag.

use reqwest::Method;
use serde_json::json;
use toolgate_store::{Streaming, StreamingMode};

use crate::app::{Client, Sse, TestApp, send, task, task_titled, wait_until};

async fn choose(app: &TestApp, mode: StreamingMode) {
    Streaming::of(&app.stack.log().await).choose(mode).await.unwrap();
}

async fn in_safe_mode(client: &Client, reason: &str) -> String {
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    let sample = format!("sse_safe_mode{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)).unwrap().to_owned()
}

/// The next event, which must tell a mode.
async fn mode(stream: &mut Sse) -> serde_json::Value {
    let frame = stream.event().await.unwrap();
    assert_eq!((frame.name(), frame.id.as_deref()), ("mode", None));
    frame.json()
}

#[tokio::test]
async fn by_hand_it_holds_events_back_and_loses_none() {
    // So long that nothing comes by itself while the test runs.
    let app = TestApp::start_with(|settings| settings.stream_safe_interval_ms = 60_000).await;
    let client = app.admin();
    let mut early = client.events("", None).await;
    early.frame().await.unwrap();
    choose(&app, StreamingMode::On).await;
    let safe = json!({"mode": "safe", "reason": "operator", "interval_ms": 60_000});
    assert_eq!(mode(&mut early).await, safe);
    assert_eq!(in_safe_mode(&client, "operator").await, "1");
    // Who comes later is told at the beginning.
    let mut late = client.events("?after=0", None).await;
    assert_eq!(mode(&mut late).await, safe);
    for number in 0..3 {
        let call = client.call_and_wait(&number.to_string(), &task_titled(&number.to_string())).await.json();
        client.get_projected(&call).await;
    }
    choose(&app, StreamingMode::Off).await;
    for stream in [&mut early, &mut late] {
        // Had an event come before, it would be here.
        assert_eq!(mode(stream).await, json!({"mode": "normal"}));
        let positions: Vec<_> = stream.events(6).await.iter().map(|frame| frame.position()).collect();
        assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
    }
    assert_eq!(in_safe_mode(&client, "operator").await, "0");
    // Normal is not worth a word.
    let mut normal = client.events("?after=5", None).await;
    assert_eq!(normal.event().await.unwrap().position(), 6);
}

#[tokio::test]
async fn bursts_come_by_themselves() {
    let app = TestApp::start_with(|settings| settings.stream_safe_interval_ms = 100).await;
    let client = app.admin();
    choose(&app, StreamingMode::On).await;
    let mut stream = client.events("", None).await;
    assert_eq!(mode(&mut stream).await["mode"], "safe");
    for number in 0..10 {
        client.call(&number.to_string(), &task_titled(&number.to_string())).await;
    }
    let positions: Vec<_> = stream.events(20).await.iter().map(|frame| frame.position()).collect();
    assert_eq!(positions, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn lag_begins_it_and_calm_ends_it() {
    let app = TestApp::start_with(|settings| {
        settings.stream_safe_interval_ms = 100;
        settings.stream_safe_lag_ms = 60_000;
    })
    .await;
    let client = app.admin();
    let mut stream = client.events("?after=0", None).await;
    stream.frame().await.unwrap();
    wait_until("the feed has begun", async || {
        send(client.anonymous(Method::GET, "/metrics")).await.text().contains("\nsse_clients 1\n")
    })
    .await;
    // In a history of its own an event is what is read before anybody listens.
    let call = client.call_and_wait("live", &task()).await.json();
    client.get_projected(&call).await;
    assert_eq!(stream.events(2).await.len(), 2);
    app.stack.append_late_event(client.tenant, 3).await;
    assert_eq!(mode(&mut stream).await, json!({"mode": "safe", "reason": "lag", "interval_ms": 100}));
    assert_eq!(stream.event().await.unwrap().position(), 3);
    assert_eq!(mode(&mut stream).await, json!({"mode": "normal"}));
    assert_eq!(in_safe_mode(&client, "lag").await, "0");
    // An operator's word is the last.
    choose(&app, StreamingMode::Off).await;
    wait_until("everybody has heard", async || {
        let mut fresh = client.events("?after=0", None).await;
        fresh.event().await.unwrap().name() != "mode"
    })
    .await;
}
