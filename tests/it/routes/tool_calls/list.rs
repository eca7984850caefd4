//! `GET /v1/tool-calls`

use std::collections::HashSet;

use futures::{StreamExt, stream};
use serde_json::json;

use crate::app::{Client, Tenant, TestApp, task_titled};

async fn request_calls(client: &Client, count: usize) -> Vec<String> {
    let calls = stream::iter(0..count).map(|number| async move {
        let answer = client.call(&format!("k{number}"), &task_titled(&format!("Task {number}"))).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    });
    let calls: Vec<_> = calls.buffer_unordered(8).collect().await;
    for call in &calls {
        client.get_projected(call).await;
    }
    calls.iter().map(|call| call["call_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_cover_every_call_exactly_once_newest_first() {
    let app = TestApp::start().await;
    let client = app.admin();
    let posted: HashSet<_> = request_calls(&client, 25).await.into_iter().collect();
    for limit in [1, 7, 24, 25, 26, 500] {
        let calls = client.pages(&format!("/v1/tool-calls?limit={limit}"), "cursor").await;
        let listed: Vec<_> = calls.iter().map(|call| call["call_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(listed.len(), 25, "limit {limit}");
        assert_eq!(listed.into_iter().collect::<HashSet<_>>(), posted, "limit {limit}");
        let times: Vec<_> = calls.iter().map(|call| call["requested_at"].as_str().unwrap()).collect();
        assert_eq!(times.len(), 25);
    }
    let tasks = client.pages("/v1/tasks?limit=10", "cursor").await;
    let positions: Vec<u64> = tasks.iter().map(|task| task["position"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(positions.len(), 25);
    assert!(positions.is_sorted_by(|newer, older| newer > older), "{positions:?}");
}

#[tokio::test]
async fn a_cursor_is_good_only_for_the_list_the_filter_and_the_tenant_it_was_made_for() {
    let app = TestApp::start().await;
    let client = app.admin();
    request_calls(&client, 3).await;
    let page = client.get("/v1/tool-calls?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let with = |cursor: &str| format!("/v1/tool-calls?limit=1&cursor={cursor}");
    assert_eq!(client.get(&with(cursor)).await.status, 200);
    // One bit anywhere is enough.
    let mut flipped = cursor.to_owned().into_bytes();
    flipped[3] = if flipped[3] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for bad in [flipped.as_str(), "", "1", "AAAA", &cursor[1..], &format!("{cursor}A")] {
        let problem = client.get(&with(bad)).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "cursor", "{bad}");
    }
    app.client(Tenant::new(), "admin").get(&with(cursor)).await.problem(400, "invalid");
    client.get(&format!("{}&tool=task.create", with(cursor))).await.problem(400, "invalid");
    client.get(&format!("/v1/tasks?limit=1&cursor={cursor}")).await.problem(400, "invalid");
}

#[tokio::test]
async fn a_limit_is_from_1_to_500_on_every_list() {
    let app = TestApp::start().await;
    let client = app.admin();
    for list in ["/v1/tool-calls", "/v1/tasks", "/v1/documents", "/v1/audit", "/v1/sessions"] {
        for (limit, status) in [("0", 400), ("1", 200), ("500", 200), ("501", 400), ("-1", 400), ("x", 400), ("", 400)] {
            let answer = client.get(&format!("{list}?limit={limit}")).await;
            assert_eq!(answer.status, status, "{list}?limit={limit}: {}", answer.text());
            if status == 400 {
                answer.problem(400, "invalid");
            }
        }
        client.get(&format!("{list}?unknown=1")).await.problem(400, "invalid");
        let empty = client.get(list).await.json();
        assert_eq!(empty, json!({"items": [], "next_cursor": null}), "{list}");
    }
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let app = TestApp::start().await;
    let client = app.admin();
    let body = json!({"tool": "knowledge.search", "arguments": {"query": "x"}, "session_id": "s1"});
    let search = client.call_and_wait("a", &body).await.json();
    let failing = json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "{{", "data": {}, "format": "html"}});
    let failed = client.call_and_wait("b", &failing).await.json();
    client.get_projected(&search).await;
    client.get_projected(&failed).await;
    for (query, expected) in [
        ("session_id=s1", vec![&search]),
        ("session_id=s2", vec![]),
        ("tool=knowledge.search", vec![&search]),
        ("status=failed", vec![&failed]),
        ("status=succeeded&tool=document.render", vec![]),
        ("", vec![&failed, &search]),
    ] {
        let page = client.get(&format!("/v1/tool-calls?{query}")).await.json();
        let ids = |calls: Vec<&serde_json::Value>| calls.iter().map(|call| call["call_id"].clone()).collect::<Vec<_>>();
        assert_eq!(ids(page["items"].as_array().unwrap().iter().collect()), ids(expected), "{query}");
    }
    client.get("/v1/tool-calls?status=unknown").await.problem(400, "invalid");
}
