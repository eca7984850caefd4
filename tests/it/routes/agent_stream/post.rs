//! `POST /v1/agent-stream`

use reqwest::Method;
use serde_json::json;

use crate::app::{Answer, Frame, Tenant, TestApp, Token, eventually, send, task, task_titled, wait_until};

fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(Frame::name).collect()
}

#[tokio::test]
async fn a_call_is_followed_from_its_first_event_to_its_outcome() {
    let app = TestApp::start().await;
    let client = app.admin();
    let body = json!({"tool": "task.create", "arguments": {"title": "T"}, "session_id": "s"});
    let mut stream = client.follow("k", &body).await;
    assert_eq!(stream.header("x-accel-buffering"), "no");
    assert!(!stream.has_header("idempotency-replayed"));
    let location = stream.header("location").to_owned();
    let greeting = stream.frame().await.unwrap();
    assert_eq!((greeting.retry.as_deref(), greeting.id), (Some("1000"), None));
    let frames = stream.until_end().await;
    assert_eq!(names(&frames), ["tool_call_requested", "tool_call_succeeded"]);
    assert_eq!(frames[1].json()["sessionid"], "s");
    wait_until("the call is projected", async || client.get(&location).await.status == 200).await;
    assert_eq!(client.get(&location).await.json()["call_id"], frames[0].json()["subject"]);
}

#[tokio::test]
async fn frames_are_those_that_everybody_gets() {
    let app = TestApp::start().await;
    let client = app.admin();
    let mut number = 0;
    // A busy machine may take longer over a projection than a frame waits for its position.
    let frames = eventually("a call whose positions are told in time", async || {
        number += 1;
        let body = json!({"tool": "task.create", "arguments": {"title": "T"}, "session_id": "s"});
        let frames = client.follow(&number.to_string(), &body).await.until_end().await;
        frames.iter().all(|frame| frame.id.is_some()).then_some(frames)
    })
    .await;
    let query = format!("?after=0&call_id={}", frames[0].json()["subject"].as_str().unwrap());
    assert_eq!(frames, client.events(&query, None).await.events(2).await);
}

#[tokio::test]
async fn many_calls_at_once_each_tell_their_own_story() {
    let app = TestApp::start().await;
    let client = app.admin();
    let followed = futures::future::join_all((0..40).map(|number| {
        let client = client.clone();
        async move { client.follow(&number.to_string(), &task_titled(&number.to_string())).await.until_end().await }
    }));
    let mut told = Vec::new();
    for (number, frames) in followed.await.iter().enumerate() {
        assert_eq!(names(frames), ["tool_call_requested", "tool_call_succeeded"]);
        assert_eq!(frames[0].json()["data"]["arguments"]["title"], number.to_string());
        assert_eq!(frames[0].json()["subject"], frames[1].json()["subject"]);
        told.extend(frames.iter().filter(|frame| frame.id.is_some()).map(|frame| (frame.position(), frame.json()["id"].clone())));
    }
    // What is told is the truth, though a busy machine may not tell all of it in time.
    let all: Vec<_> = client.events("?after=0", None).await.events(80).await;
    let truth: Vec<_> = all.iter().map(|frame| (frame.position(), frame.json()["id"].clone())).collect();
    assert!(told.iter().all(|told| truth.contains(told)), "{told:?} of {truth:?}");
}

#[tokio::test]
async fn the_same_key_follows_the_same_call_from_its_first_event() {
    let app = TestApp::start().await;
    let client = app.admin();
    let first = client.follow("k", &task()).await.until_end().await;
    let again = client.follow("k", &task()).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    let again = again.until_end().await;
    let ids = |frames: &[Frame]| frames.iter().map(|frame| frame.json()["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    // Also when the call was requested on the other route.
    let accepted = client.call("l", &task()).await;
    let followed = client.follow("l", &task()).await;
    assert_eq!(followed.header("location"), accepted.header("location"));
    assert_eq!(names(&followed.until_end().await), ["tool_call_requested", "tool_call_succeeded"]);
    assert_eq!(app.stack.count("select count(*) from task").await, 2);
}

#[tokio::test]
async fn what_is_refused_is_refused_before_the_first_byte() {
    let app = TestApp::start().await;
    let client = app.admin();
    let post = async |client: &crate::app::Client, body: &serde_json::Value, headers: &[(&str, &str)]| -> Answer {
        let request = client.request(Method::POST, "/v1/agent-stream");
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).json(body)).await
    };
    let key = [("idempotency-key", "k")];
    post(&client, &json!({"tool": "task.create", "arguments": {"titel": "x"}}), &key).await.problem(400, "invalid");
    post(&client, &task(), &[]).await.problem(400, "invalid");
    post(&client, &task(), &[("idempotency-key", "k"), ("accept", "application/json")]).await.problem(406, "not-acceptable");
    post(&client, &json!({"tool": "no.such", "arguments": {}}), &key).await.problem(404, "not-found");
    let viewer = app.client(client.tenant, "viewer");
    post(&viewer, &task(), &key).await.problem(403, "forbidden");
    let expired = app.client_with(client.tenant, &Token::of(client.tenant, "admin").expires_in(-60));
    post(&expired, &task(), &key).await.problem(401, "invalid-token");
    assert_eq!(app.stack.call_events_in_log().await, 0);

    client.follow("k", &task()).await.until_end().await;
    let other = post(&client, &task_titled("another"), &key).await;
    other.problem(422, "idempotency-mismatch");
    assert!(!other.header("ratelimit").is_empty());
}

#[tokio::test]
async fn a_tenant_over_its_limit_is_refused_and_its_open_calls_count() {
    let app = TestApp::start_with(|settings| settings.rate_limit_per_minute = 1).await;
    let client = app.admin();
    client.follow("k", &task()).await.until_end().await;
    let request = client.request(Method::POST, "/v1/agent-stream").header("idempotency-key", "l").json(&task());
    let refused = send(request).await;
    refused.problem(429, "rate-limited");
    assert!(!refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn who_hangs_up_leaves_the_call_to_go_on() {
    let app = TestApp::start().await;
    let client = app.admin();
    let stream = client.follow("k", &task()).await;
    let location = stream.header("location").to_owned();
    drop(stream);
    wait_until("the call has its outcome", async || client.get(&location).await.json()["status"] == "succeeded").await;
    wait_until("and nobody counts as a client", async || {
        let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
        metrics.contains("\nsse_clients 0\n")
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_the_call_goes_on() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    // Within the leeway a token that has ended still opens the stream, and the stream knows no leeway.
    let ended = app.client_with(tenant, &Token::of(tenant, "admin").expires_in(-10));
    let frames = ended.follow("k", &task()).await.until_end().await;
    assert_eq!(names(&frames), ["unauthorized"]);
    let admin = app.client(tenant, "admin");
    wait_until("the call has its outcome", async || {
        let calls = admin.get("/v1/tool-calls").await.json();
        calls["items"][0]["status"] == "succeeded"
    })
    .await;
}
