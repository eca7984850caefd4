//! `GET /v1/events`

use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::{Tenant, TestApp, Token, task, task_titled};

#[tokio::test]
async fn history_comes_first_and_then_what_happens() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await.json();
    client.get_projected(&call).await;
    let mut stream = client.events("?after=0", None).await;
    assert_eq!(stream.header("x-accel-buffering"), "no");
    let greeting = stream.frame().await.unwrap();
    assert_eq!(greeting.retry.as_deref(), Some("1000"));
    assert_eq!(greeting.id.as_deref(), Some("0"));
    let history = stream.events(2).await;
    client.call_and_wait("l", &task_titled("live")).await;
    let live = stream.events(2).await;
    let all: Vec<_> = history.iter().chain(&live).collect();
    assert_eq!(all.iter().map(|frame| frame.position()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let names: Vec<_> = all.iter().map(|frame| frame.name()).collect();
    let story = ["tool_call_requested", "tool_call_succeeded"];
    assert_eq!(names, [story, story].concat());
    let event = history[0].json();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "tool_call_requested");
    assert_eq!(event["subject"], call["call_id"]);
    assert_eq!(event["tenantid"], json!(client.tenant.0));
    assert_eq!(event["position"], "1");
    assert_eq!(event["data"]["tool"], "task.create");
}

#[tokio::test]
async fn the_first_byte_does_not_wait_for_the_first_event() {
    let app = TestApp::start().await;
    let client = app.admin();
    let began = Instant::now();
    let mut stream = client.events("", None).await;
    assert!(stream.frame().await.unwrap().comment.is_some());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_position_the_stream_begins_now() {
    let app = TestApp::start().await;
    let client = app.admin();
    let before = client.call_and_wait("before", &task()).await.json();
    client.get_projected(&before).await;
    let mut stream = client.events("", None).await;
    // Whoever is cut off before the first event still knows where to go on.
    let began = stream.frame().await.unwrap().id;
    assert_eq!(began.as_deref(), Some("2"));
    client.call("after", &task_titled("after")).await;
    assert_eq!(stream.event().await.unwrap().position(), 3);
    let mut resumed = client.events("", began.as_deref()).await;
    assert_eq!(resumed.event().await.unwrap().position(), 3);
}

#[tokio::test]
async fn filters_let_through_what_was_asked_for_in_history_and_live() {
    let app = TestApp::start().await;
    let client = app.admin();
    let searching = |session: &str| json!({"tool": "knowledge.search", "arguments": {"query": "x"}, "session_id": session});
    let first = client.call_and_wait("a", &searching("s1")).await.json();
    client.call_and_wait("b", &searching("s2")).await;
    client.get_projected(&first).await;
    let call_id = first["call_id"].as_str().unwrap();
    let mut by_session = client.events("?after=0&session_id=s1", None).await;
    let mut by_call = client.events(&format!("?after=0&call_id={call_id}"), None).await;
    let mut by_type = client.events("?after=0&type=tool_call_succeeded", None).await;
    let mut by_both = client.events("?after=0&session_id=s1&type=tool_call_succeeded", None).await;
    let third = client.call_and_wait("c", &searching("s1")).await.json();

    let sessions = by_session.events(4).await;
    let subjects: Vec<_> = sessions.iter().map(|frame| frame.json()["subject"].clone()).collect();
    assert_eq!(subjects, [&first, &first, &third, &third].map(|call| call["call_id"].clone()));
    assert!(sessions.iter().all(|frame| frame.json()["sessionid"] == "s1"));
    assert!(by_call.events(2).await.iter().all(|frame| frame.json()["subject"] == call_id));
    assert!(by_type.events(3).await.iter().all(|frame| frame.name() == "tool_call_succeeded"));
    let both = by_both.events(2).await;
    assert_eq!(
        [&both[0], &both[1]].map(|frame| frame.json()["subject"].clone()),
        [&first, &third].map(|call| call["call_id"].clone())
    );
}

#[tokio::test]
async fn an_impossible_position_is_reset_and_a_malformed_one_refused() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await.json();
    client.get_projected(&call).await;
    for (query, id) in [("?after=999", None), ("", Some("999")), ("?after=1", Some("18446744073709551615"))] {
        let mut stream = client.events(query, id).await;
        let reset = stream.event().await.unwrap();
        assert_eq!((reset.name(), reset.position()), ("reset", 2), "{query} {id:?}");
        assert_eq!(reset.json(), json!({"position": "2"}));
    }
    // The newest position is possible: nothing is missing, so nothing is reset.
    let mut stream = client.events("?after=2", None).await;
    client.call("l", &task_titled("next")).await;
    assert_eq!(stream.event().await.unwrap().position(), 3);

    for id in ["x", "-1", "1.5", "99999999999999999999", ""] {
        let request = client.request(reqwest::Method::GET, "/v1/events").header("last-event-id", id);
        let problem = crate::app::send(request).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "Last-Event-ID", "{id:?}");
    }
    for query in ["after=-1", "after=x", "call_id=x", "unknown=1"] {
        client.get(&format!("/v1/events?{query}")).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    // Within the leeway a token that has ended still opens the stream, and the stream knows no leeway.
    let ended = app.client_with(tenant, &Token::of(tenant, "admin").expires_in(-10));
    let mut stream = ended.events("?after=0", None).await;
    let farewell = stream.event().await.unwrap();
    assert_eq!(farewell.name(), "unauthorized");
    assert!(stream.frame().await.is_none(), "the stream goes on");
    // One that ends in a moment is served until then.
    let ending = app.client_with(tenant, &Token::of(tenant, "admin").expires_in(3));
    let mut stream = ending.events("?after=0", None).await;
    ending.call("k", &task()).await;
    assert_eq!(stream.event().await.unwrap().name(), "tool_call_requested");
    let mut last = stream.event().await.unwrap();
    while let Some(next) = stream.event().await {
        last = next;
    }
    assert_eq!(last.name(), "unauthorized");
}

#[tokio::test]
async fn who_may_not_subscribe_is_refused_before_the_first_byte() {
    let app = TestApp::start().await;
    app.client(Tenant::new(), "nobody").get("/v1/events").await.problem(403, "forbidden");
    let tenant = Tenant::new();
    let expired = app.client_with(tenant, &Token::of(tenant, "admin").expires_in(-60));
    expired.get("/v1/events").await.problem(401, "invalid-token");
}
