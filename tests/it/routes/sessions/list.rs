//! `GET /v1/sessions`

use serde_json::{Value, json};

use crate::app::{Client, Tenant, TestApp};

async fn search_in(client: &Client, session: &str) -> Value {
    let body = json!({"tool": "knowledge.search", "arguments": {"query": "x"}, "session_id": session});
    let call = client.call_and_wait(&toolgate_store::Clock::system().new_id().to_string(), &body).await.json();
    client.get_projected(&call).await
}

fn ids(sessions: &[Value]) -> Vec<&str> {
    sessions.iter().map(|session| session["session_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sessions_come_with_the_newest_activity_first() {
    let app = TestApp::start().await;
    let client = app.admin();
    for session in ["a", "b", "c", "d", "e", "b"] {
        search_in(&client, session).await;
    }
    for limit in [1, 2, 4, 5, 6, 500] {
        let sessions = client.pages(&format!("/v1/sessions?limit={limit}"), "cursor").await;
        assert_eq!(ids(&sessions), ["b", "e", "d", "c", "a"], "limit {limit}");
    }
    let page = client.get("/v1/sessions?limit=1").await;
    assert_eq!(page.header("toolgate-position"), "12", "six calls of two events");
    assert_eq!(page.json()["items"][0]["calls"]["total"], 2);
    // The page of calls that a session links to is its own.
    let session = page.json()["items"][0].clone();
    let calls = client.get(session["links"]["tool_calls"].as_str().unwrap()).await.json();
    assert_eq!(calls["items"].as_array().unwrap().len(), 2);
    assert!(calls["items"].as_array().unwrap().iter().all(|call| call["session_id"] == "b"));
}

#[tokio::test]
async fn a_cursor_is_good_for_this_list_of_this_tenant_only() {
    let app = TestApp::start().await;
    let client = app.admin();
    for session in ["a", "b"] {
        search_in(&client, session).await;
    }
    let page = client.get("/v1/sessions?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/v1/sessions?limit=1&cursor={cursor}");
    assert_eq!(ids(client.get(&path).await.json()["items"].as_array().unwrap()), ["a"]);
    app.client(Tenant::new(), "admin").get(&path).await.problem(400, "invalid");
    client.get(&format!("/v1/tool-calls?cursor={cursor}")).await.problem(400, "invalid");
    for bad in ["", "AAAA", &cursor[1..]] {
        let problem = client.get(&format!("/v1/sessions?cursor={bad}")).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "cursor", "{bad}");
    }
}

#[tokio::test]
async fn a_tenant_has_its_own_sessions_whatever_they_are_called() {
    let app = TestApp::start().await;
    let (one, other) = (app.admin(), app.admin());
    search_in(&one, "the same").await;
    search_in(&one, "the same").await;
    search_in(&other, "the same").await;
    for (client, total) in [(&one, 2), (&other, 1)] {
        let sessions = client.get("/v1/sessions").await.json();
        assert_eq!(ids(sessions["items"].as_array().unwrap()), ["the same"]);
        assert_eq!(sessions["items"][0]["calls"]["total"], total);
        assert_eq!(client.get("/v1/sessions/the%20same").await.json()["calls"]["total"], total);
    }
}

#[tokio::test]
async fn a_token_without_the_permission_is_refused() {
    let app = TestApp::start().await;
    app.client(Tenant::new(), "nobody").get("/v1/sessions?limit=0").await.problem(403, "forbidden");
}
