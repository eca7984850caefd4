//! `POST /v1/agent-stream` while something is missing, or dies.

use std::time::Duration;

use serde_json::{Value, json};
use toolgate_events::{CallId, Envelope, Form};
use toolgate_store::{Clock, Expect};

use crate::{
    app::{Child, Client, Frame, Role, Stack, Tenant, Token, send, task, wait_until},
    worker::SHORT_WAIT,
};

fn admin(stack: &Stack, api: &Child) -> Client {
    let tenant = Tenant::new();
    Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()))
}

fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(Frame::name).collect()
}

#[tokio::test]
async fn without_a_projector_events_come_without_positions() {
    let stack = Stack::new().await;
    let (api, _worker) = tokio::join!(Child::start(&stack, Role::CommandApi, &[]), Child::start(&stack, Role::Worker, &[]));
    let client = admin(&stack, &api);
    let frames = client.follow("k", &task()).await.until_end().await;
    assert_eq!(names(&frames), ["tool_call_requested", "tool_call_succeeded"]);
    assert!(frames.iter().all(|frame| frame.id.is_none() && frame.json().get("position").is_none()), "{frames:?}");
}

#[tokio::test]
async fn a_cancelled_call_ends_its_stream() {
    let stack = Stack::new().await;
    let (api, _projector) = tokio::join!(Child::start(&stack, Role::CommandApi, &[]), Child::start(&stack, Role::Projector, &[]));
    let client = admin(&stack, &api);
    let mut stream = client.follow("k", &task()).await;
    assert_eq!(stream.event().await.unwrap().name(), "tool_call_requested");
    let path = format!("{}/cancel", stream.header("location"));
    assert_eq!(client.post(&path).await.status, 202);
    let rest = stream.until_end().await;
    assert_eq!(names(&rest), ["tool_call_cancelled"]);
}

#[tokio::test]
async fn a_call_whose_worker_dies_is_followed_to_what_the_next_one_makes_of_it() {
    let stack = Stack::new().await;
    let dying = [("TOOLGATE_CRASH_AT", "worker.effect"), SHORT_WAIT];
    let (api, _projector, mut worker) = tokio::join!(
        Child::start(&stack, Role::CommandApi, &[]),
        Child::start(&stack, Role::Projector, &[]),
        Child::start(&stack, Role::Worker, &dying),
    );
    let client = admin(&stack, &api);
    let mut stream = client.follow("k", &task()).await;
    assert_eq!(stream.event().await.unwrap().name(), "tool_call_requested");
    assert!(!worker.ended().await.success());
    let _healthy = Child::start(&stack, Role::Worker, &[SHORT_WAIT]).await;
    let rest = stream.until_end().await;
    assert_eq!(rest.last().unwrap().name(), "tool_call_succeeded");
    let sequences: Vec<_> = rest.iter().map(|frame| frame.json()["aggregatesequence"].clone()).collect();
    let expected: Vec<_> = (2..2 + rest.len()).map(|sequence| json!(sequence.to_string())).collect();
    assert_eq!(sequences, expected);
}

#[tokio::test]
async fn a_stream_outlives_nats() {
    let (stack, mut services) = Stack::private(false).await;
    let api = Child::start(&stack, Role::CommandApi, &[]).await;
    let client = admin(&stack, &api);
    let mut stream = client.follow("k", &task()).await;
    assert_eq!(stream.event().await.unwrap().name(), "tool_call_requested");
    let nats = services.nats_mut().unwrap();
    nats.kill().await;
    nats.restart().await.unwrap();
    let _worker = Child::start(&stack, Role::Worker, &[]).await;
    assert_eq!(names(&stream.until_end().await), ["tool_call_succeeded"]);
}

#[tokio::test]
async fn a_process_that_ends_ends_its_streams() {
    let stack = Stack::new().await;
    let mut api = Child::start(&stack, Role::CommandApi, &[]).await;
    let client = admin(&stack, &api);
    let mut stream = client.follow("k", &task()).await;
    assert_eq!(stream.event().await.unwrap().name(), "tool_call_requested");
    api.terminate().await;
    assert_eq!(names(&stream.until_end().await), [""; 0]);
    assert!(api.ended().await.success());
}

#[tokio::test]
async fn a_stream_takes_a_place_and_what_finds_none_is_not_accepted() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::CommandApi, &[("TOOLGATE_MAX_CONNECTIONS", "4")]).await;
    let client = admin(&stack, &api);
    let held = client.follow("k", &task()).await;
    let another = || client.request(reqwest::Method::POST, "/v1/agent-stream").header("idempotency-key", "l").json(&task());
    send(another()).await.problem(429, "rate-limited");
    assert_eq!(stack.call_events_in_log().await, 1, "it was accepted all the same");
    assert_eq!(client.call("m", &task()).await.status, 202, "an ordinary call needs no place");
    drop(held);
    wait_until("the place is free again", async || another().send().await.unwrap().status() == 200).await;
}

/// Follows a call, and gives it one more event of this type and version as it is to be recorded; what comes after its first event.
async fn with_event(event_type: &str, version: u32, data: Value) -> Vec<Frame> {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::CommandApi, &[]).await;
    let client = admin(&stack, &api);
    let mut stream = client.follow("k", &task()).await;
    let requested = stream.event().await.unwrap();
    assert_eq!(requested.name(), "tool_call_requested");
    let call = CallId(requested.json()["subject"].as_str().unwrap().parse().unwrap());
    let log = stack.log().await;
    let subject = log.locate(client.tenant.id(), call).await.unwrap().unwrap();
    let recorded = log.load(&subject).await.unwrap();
    let event = Envelope {
        event_id: Clock::system().new_id(),
        event_type: event_type.to_owned(),
        event_version: version,
        aggregate_sequence: 2,
        occurred_at: Clock::system().now(),
        data,
        form: Form::Recorded,
        ..recorded[0].envelope.clone()
    };
    let expect = Expect(recorded[0].stream_sequence);
    log.append(&subject, &event, expect, None, Duration::from_secs(5)).await.unwrap();
    stream.until_end().await
}

#[tokio::test]
async fn an_event_that_cannot_be_opened_is_shown_as_recorded_and_ends_the_stream_like_any_other() {
    let damaged = json!({"jwe": "e30..nothing.to.open"});
    let result =
        json!({"tool": "task.create", "attempt": 1, "worker": "w", "duration_ms": 1, "cached": false, "result": damaged});
    let frames = with_event("tool_call_succeeded", 3, result.clone()).await;
    assert_eq!(names(&frames), ["tool_call_succeeded"]);
    assert_eq!(frames[0].json()["data"], result);
}

#[tokio::test]
async fn an_outcome_of_a_later_release_is_one_all_the_same() {
    let frames = with_event("tool_call_cancelled", 99, json!({"why": "nobody knows yet"})).await;
    assert_eq!(names(&frames), ["tool_call_cancelled"]);
}
