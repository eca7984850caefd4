//! `GET /v1/sessions/{session_id}/events`

use serde_json::json;

use crate::app::{Tenant, TestApp};

#[tokio::test]
async fn a_session_has_a_stream_of_its_own_before_its_first_call() {
    let app = TestApp::start().await;
    let client = app.admin();
    let searching = |session: &str| json!({"tool": "knowledge.search", "arguments": {"query": "x"}, "session_id": session});
    let mut waiting = client.stream("/v1/sessions/a%2Fb%20%3F/events", None).await;
    waiting.frame().await.unwrap();
    client.call_and_wait("other", &searching("other")).await;
    let own = client.call_and_wait("own", &searching("a/b ?")).await.json();
    client.get_projected(&own).await;
    let mut resumed = client.stream("/v1/sessions/a%2Fb%20%3F/events?after=3", None).await;
    for (stream, count) in [(&mut waiting, 2), (&mut resumed, 1)] {
        let events = stream.events(count).await;
        assert!(events.iter().all(|event| event.json()["subject"] == own["call_id"] && event.json()["sessionid"] == "a/b ?"));
        assert_eq!(events.last().unwrap().position(), 4);
    }
    let mut beyond = client.stream("/v1/sessions/s/events?after=99", None).await;
    assert_eq!(beyond.event().await.unwrap().name(), "reset");
}

#[tokio::test]
async fn it_takes_what_it_says_and_nothing_else() {
    let app = TestApp::start().await;
    let client = app.admin();
    for query in ["after=-1", "after=x", "session_id=s", "min_position=1", "as_of=1"] {
        client.get(&format!("/v1/sessions/s/events?{query}")).await.problem(400, "invalid");
    }
    client.get("/v1/sessions/%00/events").await.problem(404, "not-found");
    app.client(Tenant::new(), "nobody").get("/v1/sessions/s/events").await.problem(403, "forbidden");
}
