//! `GET /v1/sessions/{session_id}`

use serde_json::{Value, json};

use crate::app::{Client, TestApp, task};

async fn call_in(client: &Client, session: &str, tool: &str, arguments: Value) -> Value {
    let body = json!({"tool": tool, "arguments": arguments, "session_id": session});
    let call = client.call_and_wait(&toolgate_store::Clock::system().new_id().to_string(), &body).await.json();
    client.get_projected(&call).await
}

#[tokio::test]
async fn a_session_tells_what_its_calls_did_and_made() {
    let app = TestApp::start().await;
    let client = app.admin();
    let id = "Thursday's / 100% \"odd\"? #1+2 größe 😀";
    let task = call_in(&client, id, "task.create", json!({"title": "T"})).await;
    let document = call_in(&client, id, "document.render", json!({"title": "T", "markdown": "x", "format": "html"})).await;
    let failing = json!({"title": "T", "markdown": "{{", "data": {}, "format": "html"});
    let failed = call_in(&client, id, "document.render", failing).await;
    call_in(&client, "another", "task.create", json!({"title": "U"})).await;

    let listed = client.get("/v1/sessions").await.json()["items"][1].clone();
    assert_eq!(listed["session_id"], id);
    let session = client.get(listed["links"]["self"].as_str().unwrap()).await.json();
    for (member, value) in listed.as_object().unwrap() {
        assert_eq!(&session[member], value, "{member}");
    }
    let calls = json!({"total": 3, "requested": 0, "running": 0, "succeeded": 2, "failed": 1, "cancelled": 0});
    assert_eq!(session["calls"], calls);
    assert_eq!(session["principals"], json!(["tester"]));
    assert_eq!((&session["artifact_count"], &session["task_count"]), (&json!(1), &json!(1)));
    assert_eq!((&session["first_at"], &session["last_at"]), (&task["requested_at"], &failed["finished_at"]));
    assert_eq!(session["position"], failed["position"]);
    let tools: Vec<_> =
        session["tools"].as_array().unwrap().iter().map(|tool| (&tool["tool"], &tool["calls"], &tool["failed"])).collect();
    let expected = json!([["document.render", 2, 1], ["task.create", 1, 0]]);
    assert_eq!(json!(tools), expected);
    assert_eq!(session["artifacts"][0]["artifact_id"], document["result"]["artifact_id"]);
    assert_eq!(session["artifacts"][0]["call_id"], document["call_id"]);
    assert_eq!(session["tasks"][0]["task_id"], task["result"]["task_id"]);
    let error = &session["errors"][0];
    assert_eq!((&error["call_id"], &error["type"]), (&failed["call_id"], &failed["error"]["type"]));
    assert_eq!(error.get("detail"), None, "what a failure says of its call is the call's own");
}

#[tokio::test]
async fn what_is_no_session_is_404() {
    let app = TestApp::start().await;
    let client = app.admin();
    call_in(&client, "s", "knowledge.search", json!({"query": "x"})).await;
    assert_eq!(client.get("/v1/sessions/s").await.status, 200);
    assert_eq!(client.get("/v1/sessions/%73").await.status, 200, "an escaped letter is that letter");
    for id in ["S", "s%20", "%00", "s%00", "%FF", &"x".repeat(129), "s%2Fevents"] {
        client.get(&format!("/v1/sessions/{id}")).await.problem(404, "not-found");
    }
    app.admin().get("/v1/sessions/s").await.problem(404, "not-found");
}

#[tokio::test]
async fn what_is_no_place_in_the_past_is_400() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = call_in(&client, "s", "knowledge.search", json!({"query": "x"})).await;
    let call = call["call_id"].as_str().unwrap();
    for path in ["/v1/sessions/s", &format!("/v1/tool-calls/{call}"), "/v1/usage"] {
        for (as_of, detail) in [
            ("x", "must be a position or a date and time (RFC 3339)"),
            ("-1", "must be a position or a date and time (RFC 3339)"),
            ("1.5", "must be a position or a date and time (RFC 3339)"),
            ("2026-01-01", "must be a position or a date and time (RFC 3339)"),
            ("18446744073709551616", "must be a position or a date and time (RFC 3339)"),
            ("3", "the newest position is 2"),
            ("", "must be left out, or have a value"),
        ] {
            let problem = client.get(&format!("{path}?as_of={as_of}")).await.problem(400, "invalid");
            assert_eq!(problem["errors"][0], json!({"pointer": "as_of", "detail": detail}), "{path} {as_of}");
        }
        let answer = client.get(&format!("{path}?as_of=2&min_position=2")).await;
        assert_eq!((answer.status, answer.header("toolgate-position")), (200, "2"), "{path}");
        assert_eq!(client.get(&format!("{path}?as_of=1")).await.header("toolgate-position"), "1", "{path}");
    }
    client.get("/v1/sessions/s?as_of=0").await.problem(404, "not-found");
    client.get(&format!("/v1/tool-calls/{call}?as_of=0")).await.problem(404, "not-found");
    assert_eq!(client.get("/v1/usage?as_of=0").await.json()["items"], json!([]));
    // What is to come is awaited first, and then there is a past of it.
    let (later, task) = (format!("/v1/tool-calls/{call}?as_of=3&min_position=3"), task());
    let (answer, _) = tokio::join!(client.get(&later), client.call("later", &task));
    assert_eq!((answer.status, answer.header("toolgate-position")), (200, "3"), "{}", answer.text());
}
