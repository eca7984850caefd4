//! `GET /v1/audit/replay`

use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::{Frame, Tenant, TestApp, Token, post_mixed, wait_until};

fn positions(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(Frame::position).collect()
}

/// Frames without the one that ends a replay.
fn but_end(mut frames: Vec<Frame>) -> Vec<Frame> {
    let end = frames.pop().unwrap();
    assert_eq!(end.name(), "end");
    assert_eq!(end.json()["position"], end.id.unwrap());
    frames
}

#[tokio::test]
async fn history_comes_again_as_it_was_and_nothing_is_done() {
    let app = TestApp::start().await;
    let client = app.admin();
    let calls = post_mixed(&client, 8, 4, |_| ()).await;
    wait_until("every call has its outcome", async || {
        app.stack.count("select count(*) from tool_call where finished_at is not null").await == 8
    })
    .await;
    let rows = client.audit().await;
    let (events, tasks) = (app.stack.events_in_log().await, app.stack.count("select count(*) from task").await);
    let once = client.events("?after=0", None).await.events(rows.len()).await;
    let replayed = but_end(client.stream("/v1/audit/replay?speed=max", None).await.until_end().await);
    assert_eq!(replayed, once);
    assert_eq!(calls.len(), 8);
    assert_eq!(app.stack.events_in_log().await, events, "a replay has recorded something");
    assert_eq!(app.stack.count("select count(*) from task").await, tasks, "a replay has run a tool");
}

#[tokio::test]
async fn a_part_is_replayed_by_position_time_and_filter() {
    let app = TestApp::start().await;
    let client = app.admin();
    app.stack.insert_events_apart(client.tenant, 9, 60).await;
    let of =
        async |query: &str| but_end(client.stream(&format!("/v1/audit/replay?speed=max{query}"), None).await.until_end().await);
    for (query, expected) in [
        ("", (1..=9).collect::<Vec<_>>()),
        ("&from=3&to=5", vec![3, 4, 5]),
        ("&from=9", vec![9]),
        ("&to=1", vec![1]),
        ("&from=10", vec![]),
        ("&from=5&to=4", vec![]),
        ("&to=100", (1..=9).collect()),
        ("&after=7", vec![8, 9]),
        ("&after=9", vec![]),
        // The first occurred at this time, and each other a minute later than the one before.
        ("&from=2026-01-01T00:02:00Z&to=2026-01-01T00:04:00Z", vec![3, 4]),
        ("&from=2026-01-01T00:01:59.999Z&to=2026-01-01T00:04:00.001Z", vec![3, 4, 5]),
        ("&from=2026-01-01T01:02:00%2B01:00&to=3", vec![3]),
        ("&type=odd", vec![1, 3, 5, 7, 9]),
        ("&actor=nobody", vec![]),
        ("&session_id=none", vec![]),
        ("&call_id=00000000-0000-0000-0000-000000000001", vec![]),
    ] {
        assert_eq!(positions(&of(query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn it_takes_the_time_that_it_took_at_the_speed_asked_for() {
    let app = TestApp::start().await;
    let client = app.admin();
    app.stack.insert_events_apart(client.tenant, 5, 60).await;
    let took = async |speed: &str| {
        let began = Instant::now();
        let frames = but_end(client.stream(&format!("/v1/audit/replay?speed={speed}"), None).await.until_end().await);
        assert_eq!(frames.len(), 5);
        began.elapsed()
    };
    // Four minutes.
    for (speed, at_least) in [("1000", 240), ("200", 1_200)] {
        let took = took(speed).await;
        assert!(took >= Duration::from_millis(at_least), "{speed}: {took:?}");
    }
    for speed in ["max", "0"] {
        assert!(took(speed).await < Duration::from_secs(20), "{speed}");
    }
}

#[tokio::test]
async fn a_replay_that_was_cut_off_is_resumed() {
    let app = TestApp::start().await;
    let client = app.admin();
    app.stack.insert_events_apart(client.tenant, 450, 1).await;
    let mut seen = Vec::new();
    let mut last: Option<String> = None;
    for taken in [1, 199, 200] {
        let mut stream = client.stream("/v1/audit/replay?speed=max&to=420", last.as_deref()).await;
        let frames = stream.events(taken).await;
        last = frames.last().unwrap().id.clone();
        seen.extend(positions(&frames));
    }
    seen.extend(positions(&but_end(client.stream("/v1/audit/replay?speed=max&to=420", last.as_deref()).await.until_end().await)));
    assert_eq!(seen, (1..=420).collect::<Vec<_>>());
    let beyond = client.stream("/v1/audit/replay?speed=max", Some("451")).await.until_end().await;
    assert_eq!(beyond.iter().map(Frame::name).collect::<Vec<_>>(), ["reset", "end"]);
    assert_eq!(beyond[0].json(), json!({"position": "450"}));
    // Nobody is sent ahead to be called back by the end.
    let beyond = client.stream("/v1/audit/replay?speed=max&to=420", Some("451")).await.until_end().await;
    assert_eq!(beyond.iter().map(|frame| (frame.name(), frame.position())).collect::<Vec<_>>(), [("reset", 420), ("end", 420)]);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let app = TestApp::start().await;
    let client = app.admin();
    for (query, named) in [
        ("from=yesterday", "from"),
        ("to=-1", "to"),
        ("speed=0.009", "speed"),
        ("speed=1001", "speed"),
        ("speed=fast", "speed"),
        ("actor=%00", "actor"),
    ] {
        let problem = client.get(&format!("/v1/audit/replay?{query}")).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], named, "{query}");
    }
    for query in ["after=x", "call_id=x", "unknown=1"] {
        client.get(&format!("/v1/audit/replay?{query}")).await.problem(400, "invalid");
    }
    app.client(client.tenant, "viewer").get("/v1/audit/replay").await.problem(403, "forbidden");
    app.client(client.tenant, "agent").get("/v1/audit/replay").await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_replay_ends_with_its_token() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    app.stack.insert_events_apart(tenant, 2, 3_600).await;
    let ending = app.client_with(tenant, &Token::of(tenant, "auditor").expires_in(3));
    let frames = ending.stream("/v1/audit/replay", None).await.until_end().await;
    assert_eq!(frames.iter().map(Frame::name).collect::<Vec<_>>(), ["odd", "unauthorized"]);
}
