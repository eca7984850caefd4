//! An upstream that keeps failing is left alone, and found again when it is back.

use serde_json::json;

use super::{Upstream, app, metric, outcome, request, story};
use crate::app::{Client, TestApp, eventually};

const STATE: &str = "circuit_state{tool=\"http.request\"}";

#[tokio::test]
async fn a_dead_upstream_is_left_alone_and_nobody_else_is() {
    let (dead, alive) = (Upstream::start().await, Upstream::start().await);
    // Longer than any test.
    let app = app(&[&dead, &alive], |settings| settings.circuit_open_ms = 600_000).await;
    dead.die();
    let client = app.admin();
    assert_eq!(metric(&client, STATE).await.as_deref(), Some("0"));
    let first = outcome(&client, &request("GET", &dead.url("/"))).await;
    assert_eq!(first["error"]["type"], "urn:toolgate:tool:upstream", "{first}");
    // The fifth failure in a row is its second attempt's.
    let second = outcome(&client, &request("GET", &dead.url("/"))).await;
    assert_eq!(second["error"]["type"], "urn:toolgate:tool:circuit-open", "{second}");
    for method in ["GET", "POST"] {
        let refused = outcome(&client, &request(method, &dead.url("/"))).await;
        assert_eq!(refused["error"]["type"], "urn:toolgate:tool:circuit-open", "{refused}");
        assert!(!story(&client, &refused).await.iter().any(|event| event.starts_with("retried")), "{refused}");
    }
    assert_eq!(metric(&client, STATE).await.as_deref(), Some("2"));
    assert_eq!(outcome(&client, &request("GET", &alive.url("/"))).await["status"], "succeeded", "another host");
    let other = outcome(&app.admin(), &request("GET", &dead.url("/"))).await;
    assert_eq!(
        (&other["error"]["type"], &other["attempts"]),
        (&json!("urn:toolgate:tool:upstream"), &json!(3)),
        "another tenant"
    );
}

/// An upstream that was away until a tenant's breaker opened, and is there again.
async fn back_after_its_breaker_opened() -> (Upstream, TestApp, Client) {
    let mut upstream = Upstream::start().await;
    let app = app(&[&upstream], |settings| settings.circuit_open_ms = 100).await;
    upstream.die();
    let client = app.admin();
    eventually("the breaker opens", async || {
        let call = outcome(&client, &request("GET", &upstream.url("/"))).await;
        (call["error"]["type"] == "urn:toolgate:tool:circuit-open").then_some(())
    })
    .await;
    upstream.come_back().await;
    (upstream, app, client)
}

#[tokio::test]
async fn an_upstream_that_is_back_is_found_by_a_probe() {
    let (upstream, _app, client) = back_after_its_breaker_opened().await;
    eventually("a probe finds it", async || {
        let call = outcome(&client, &request("GET", &upstream.url("/"))).await;
        (call["status"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(metric(&client, STATE).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn an_upstream_that_answers_what_helps_nobody_is_back_all_the_same() {
    let (upstream, _app, client) = back_after_its_breaker_opened().await;
    eventually("a probe gets an answer", async || {
        let call = outcome(&client, &request("GET", &upstream.url("/loop"))).await;
        call["error"]["detail"].as_str().unwrap().contains("redirected").then_some(())
    })
    .await;
    assert_eq!(metric(&client, STATE).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn what_a_caller_did_wrong_opens_nothing() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |settings| settings.circuit_open_ms = 600_000).await;
    let client = app.admin();
    for _ in 0..7 {
        let mut wrong = request("GET", &upstream.url("/"));
        wrong["arguments"]["body"] = json!("GET has none");
        assert_eq!(outcome(&client, &wrong).await["error"]["type"], "urn:toolgate:tool:invalid-arguments");
        let refused = outcome(&client, &request("GET", "https://elsewhere.example/")).await;
        assert_eq!(refused["error"]["type"], "urn:toolgate:tool:egress-blocked", "{refused}");
        // A time so short that nobody could keep it.
        let mut hurried = request("GET", &upstream.url("/hang"));
        hurried["options"] = json!({"timeout_ms": 100});
        assert_eq!(outcome(&client, &hurried).await["error"]["type"], "urn:toolgate:tool:timeout");
    }
    assert_eq!(outcome(&client, &request("GET", &upstream.url("/"))).await["status"], "succeeded");
    assert_eq!(metric(&client, STATE).await.as_deref(), Some("0"));
}
