//! `POST /v1/tool-calls`: what is refused, and that nothing comes of it.

use futures::stream;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::app::{Answer, Client, Tenant, TestApp, eventually, send, task, task_titled};

const BODY_LIMIT: usize = 256 * 1024;

/// Posts text as it stands, under a key.
async fn post_text(client: &Client, text: impl Into<Body>) -> Answer {
    let request = client.request(Method::POST, "/v1/tool-calls").header("idempotency-key", "k");
    send(request.header("content-type", "application/json").body(text)).await
}

/// A refused request leaves no event, no row, and no projector that has moved.
pub async fn assert_nothing_happened(app: &TestApp) {
    app.stack.assert_untouched().await;
}

#[tokio::test]
async fn a_body_that_means_nothing_or_two_things_is_400() {
    let app = TestApp::start().await;
    let client = app.admin();
    let wrong = [
        "",
        "{",
        "null",
        "[]",
        r#"{"tool":"task.create"}"#,
        r#"{"tool":"task.create","arguments":[]}"#,
        r#"{"tool":"task.create","arguments":{"title":"T"},"extra":1}"#,
        r#"{"tool":"task.create","arguments":{"title":"T"},"options":{"extra":1}}"#,
        r#"{"tool":"task.create","tool":"task.create","arguments":{"title":"T"}}"#,
        r#"{"tool":"task.create","arguments":{"title":"T","\u0074itle":"U"}}"#,
        r#"{"tool":"task.create","arguments":{"title":"\u0000"}}"#,
        r#"{"tool":"task.create","arguments":{"title":"T"}} {}"#,
    ];
    for text in wrong {
        let problem = post_text(&client, text).await.problem(400, "invalid");
        assert!(problem["errors"].is_array(), "{text}: {problem}");
    }
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn arguments_against_the_contract_are_400_with_a_pointer_to_each() {
    let app = TestApp::start().await;
    let client = app.admin();
    let body = json!({
        "tool": "task.create",
        "arguments": {"title": "", "due": "tomorrow", "labels": ["", "x"], "colour": 1},
        "session_id": "",
        "options": {"timeout_ms": 0},
    });
    let problem = client.call("k", &body).await.problem(400, "invalid");
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    for pointer in
        ["/arguments/title", "/arguments/due", "/arguments/labels/0", "/arguments/colour", "/session_id", "/options/timeout_ms"]
    {
        assert!(pointers.contains(&pointer), "{pointer} is not in {problem}");
    }
    assert!(problem["errors"].as_array().unwrap().iter().all(|error| error["detail"].is_string()), "{problem}");
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_tool_with_side_effects_needs_a_key_that_is_one() {
    let app = TestApp::start().await;
    let client = app.admin();
    let post = || client.request(Method::POST, "/v1/tool-calls").json(&task());
    let long = "k".repeat(256);
    let requests = [
        post(),
        post().header("idempotency-key", ""),
        post().header("idempotency-key", long),
        post().header("idempotency-key", "\"open"),
        post().header("idempotency-key", "a").header("idempotency-key", "b"),
    ];
    for request in requests {
        let problem = send(request).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "Idempotency-Key", "{problem}");
    }
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_viewer_may_call_nothing_and_is_not_told_which_tools_exist() {
    let app = TestApp::start().await;
    for role in ["viewer", "auditor", "nobody"] {
        let client = app.client(Tenant::new(), role);
        client.call("k", &task()).await.problem(403, "forbidden");
        let unknown = json!({"tool": "no.such", "arguments": {}});
        client.call("k", &unknown).await.problem(403, "forbidden");
        // That it was denied is all that is on record: once for the tool, once for what is none.
        let auditor = app.client(client.tenant, "auditor");
        let rows = eventually("both denials are on record", async || {
            let rows = auditor.audit().await;
            (rows.len() == 2).then_some(rows)
        })
        .await;
        assert!(rows.iter().all(|row| row["event_type"] == "tool_call_denied" && row["data"]["refused"] == 1), "{rows:?}");
        assert_eq!(rows[0]["data"]["tool"], "task.create");
        assert_eq!((rows[1]["data"].get("tool"), &rows[1]["data"]["permission"]), (None, &json!("tool.*.*:invoke")));
    }
    assert_eq!(app.stack.events_in_log().await, 6);
    assert_eq!(app.stack.count("select count(*) from tool_call").await, 0);
    assert_eq!(app.stack.count("select count(*) from parked_event").await, 0);
}

#[tokio::test]
async fn an_unknown_tool_is_404_and_a_wrong_method_405() {
    let app = TestApp::start().await;
    let client = app.admin();
    let unknown = |tool: &str| json!({"tool": tool, "arguments": {}});
    for tool in ["no.such", "", "task.create ", "Task.Create", "task.*"] {
        client.call("k", &unknown(tool)).await.problem(404, "not-found");
    }
    let refused = send(client.request(Method::DELETE, "/v1/tool-calls")).await;
    refused.problem(405, "method-not-allowed");
    let mut allowed: Vec<_> = refused.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    client.get("/v1/no-such-path").await.problem(404, "not-found");
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_however_it_is_sent() {
    let app = TestApp::start().await;
    let client = app.admin();
    // White space around a document is part of the body and of nothing else.
    let padded = |length: usize| {
        let body = json!({"tool": "task.create", "arguments": {"title": "T"}}).to_string();
        let padding = " ".repeat(length - body.len());
        body + &padding
    };
    let chunked = |text: String| {
        let chunks: Vec<_> = text.as_bytes().chunks(60_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
        Body::wrap_stream(stream::iter(chunks))
    };
    post_text(&client, padded(BODY_LIMIT + 1)).await.problem(413, "too-large");
    post_text(&client, chunked(padded(BODY_LIMIT + 1))).await.problem(413, "too-large");
    assert_nothing_happened(&app).await;
    for length in [BODY_LIMIT - 1, BODY_LIMIT] {
        for body in [Body::from(padded(length)), chunked(padded(length))] {
            let answer = post_text(&client, body).await;
            assert!([200, 202].contains(&answer.status), "{length} bytes: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn what_is_not_json_in_utf_8_is_415() {
    let app = TestApp::start().await;
    let client = app.admin();
    let post = || client.request(Method::POST, "/v1/tool-calls").header("idempotency-key", "k").body(task().to_string());
    let requests = [
        post(),
        post().header("content-type", "text/plain"),
        post().header("content-type", "application/json; charset=latin1"),
        post().header("content-type", "application/jsonx"),
        post().header("content-type", "application/json").header("content-encoding", "gzip"),
    ];
    for request in requests {
        send(request).await.problem(415, "unsupported-media-type");
    }
    assert_nothing_happened(&app).await;
    for content_type in ["application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\""] {
        let answer = send(post().header("content-type", content_type)).await;
        assert!([200, 202].contains(&answer.status), "{content_type}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_key_with_another_body_is_422_and_appends_nothing() {
    let app = TestApp::start().await;
    let client = app.admin();
    client.call_and_wait("k", &task_titled("one")).await;
    let before = app.stack.events_in_log().await;
    let others: [Value; 4] = [
        task_titled("two"),
        json!({"tool": "task.create", "arguments": {"title": "one"}, "session_id": "s"}),
        json!({"tool": "task.create", "arguments": {"title": "one"}, "options": {"timeout_ms": 5}}),
        json!({"tool": "task.create", "arguments": {"title": "one", "labels": []}}),
    ];
    for body in others {
        client.call("k", &body).await.problem(422, "idempotency-mismatch");
    }
    assert_eq!(app.stack.events_in_log().await, before);
}
