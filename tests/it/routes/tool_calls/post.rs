//! `POST /v1/tool-calls`: what is accepted.

use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, send, task};

#[tokio::test]
async fn a_caller_who_waits_gets_the_outcome() {
    let app = TestApp::start().await;
    let client = app.admin();
    let answer = client.call_and_wait("k1", &task()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), "wait=30");
    assert_eq!(answer.header("idempotency-replayed"), "");
    let call = answer.json();
    assert_eq!(call["status"], "succeeded");
    assert_eq!(call["attempts"], 1);
    assert!(call["result"]["task_id"].is_string(), "{call}");
    assert_eq!(answer.header("location"), format!("/v1/tool-calls/{}", call["call_id"].as_str().unwrap()));
    assert_eq!(call["links"]["self"], json!(answer.header("location")));
}

#[tokio::test]
async fn a_caller_who_does_not_wait_is_told_where_to_look() {
    let app = TestApp::start().await;
    let client = app.admin();
    for path in ["/v1/tool-calls", "/tool-call"] {
        let request = client.request(Method::POST, path).header("idempotency-key", path);
        let answer = send(request.json(&task())).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header("preference-applied"), "");
        let call = answer.json();
        assert_eq!(call["status"], "requested");
        let location = answer.header("location").to_owned();
        assert_eq!(location, format!("/v1/tool-calls/{}", answer.call_id()));
        assert_eq!(client.get(&location).await.json()["call_id"], call["call_id"]);
    }
}

#[tokio::test]
async fn a_failure_of_the_tool_is_an_answer_and_not_an_error() {
    let app = TestApp::start().await;
    let body = json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "{{ missing }}", "data": {}, "format": "html"}});
    let answer = app.admin().call_and_wait("k", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = answer.json();
    assert_eq!(call["status"], "failed");
    assert_eq!(call["error"]["type"], "urn:toolgate:tool:invalid-arguments", "{call}");
    assert!(call.get("result").is_none(), "{call}");
}

#[tokio::test]
async fn the_session_is_the_one_asked_for_or_the_tokens_own() {
    let app = TestApp::start().await;
    let tenant = crate::app::Tenant::new();
    let token = crate::app::Token::of(tenant, "agent").claim("session_id", json!("of-the-token"));
    let client = app.client_with(tenant, &token);
    let mut body = json!({"tool": "knowledge.search", "arguments": {"query": "x"}});
    assert_eq!(client.call_and_wait("a", &body).await.json()["session_id"], "of-the-token");
    body["session_id"] = json!("asked");
    assert_eq!(client.call_and_wait("b", &body).await.json()["session_id"], "asked");
}

#[tokio::test]
async fn every_request_has_a_trace_that_reaches_the_event_stream() {
    let app = TestApp::start().await;
    let client = app.admin();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = client
        .request(Method::POST, "/v1/tool-calls")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .header("x-request-id", "my-request")
        .header("idempotency-key", "k");
    let answer = send(request.json(&task())).await;
    assert_eq!(answer.header("x-request-id"), "my-request");
    assert_eq!(answer.header("traceparent").split('-').nth(1), Some(trace));
    for frame in client.events("?after=0", None).await.events(2).await {
        let carried = frame.json()["traceparent"].as_str().unwrap().to_owned();
        assert_eq!(carried.split('-').nth(1), Some(trace), "{}", frame.name());
    }
}

#[tokio::test]
async fn a_key_of_255_characters_is_accepted_bare_or_quoted() {
    let app = TestApp::start().await;
    let client = app.admin();
    let key = "k".repeat(255);
    let bare = client.call(&key, &task()).await;
    assert_eq!(bare.status, 202, "{bare:?}");
    let quoted = client.call(&format!("\"{key}\""), &task()).await;
    assert_eq!(quoted.call_id(), bare.call_id());
    assert_eq!(quoted.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn a_read_only_tool_needs_no_key_and_every_call_is_another() {
    let app = TestApp::start().await;
    let client = app.admin();
    let body = json!({"tool": "knowledge.search", "arguments": {"query": "x"}});
    let post = async || send(client.request(Method::POST, "/v1/tool-calls").json(&body)).await;
    let (first, second) = (post().await, post().await);
    assert_eq!((first.status, second.status), (202, 202));
    assert_ne!(first.call_id(), second.call_id());
}
