//! `GET /v1/tasks`

use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn a_created_task_is_listed_as_it_was_asked_for() {
    let app = TestApp::start().await;
    let client = app.admin();
    let arguments = json!({
        "title": "Review \"this\"",
        "description": "it's; drop table task --",
        "assignee": "ada",
        "due": "2030-01-31T12:00:00Z",
        "labels": ["audit", "größe", "{,}"],
    });
    let result = client.result_of("task.create", arguments.clone()).await;
    let page = client.get("/v1/tasks").await.json();
    let task = &page["items"][0];
    assert_eq!(task["task_id"], result["task_id"]);
    for member in ["title", "description", "assignee", "labels"] {
        assert_eq!(task[member], arguments[member], "{member}");
    }
    assert_eq!(task["due"], "2030-01-31T12:00:00.000000Z");
    assert_eq!(task["status"], "open");
    assert_eq!(task["version"], 1);
    assert_eq!(task["updated_at"], task["created_at"]);
    assert_eq!(task["updated_position"], task["position"]);
    assert_eq!(task["position"], "2");
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}

fn ids(tasks: &[Value]) -> Vec<&str> {
    tasks.iter().map(|task| task["task_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_list_is_narrowed_by_status_assignee_and_label() {
    let app = TestApp::start().await;
    let (client, other) = (app.admin(), app.admin());
    let mut made = Vec::new();
    for (assignee, labels) in [("ada", json!(["audit"])), ("bo", json!(["audit", "größe"])), ("ada", json!([]))] {
        let arguments = json!({"title": "T", "assignee": assignee, "labels": labels});
        made.push(client.result_of("task.create", arguments.clone()).await["task_id"].as_str().unwrap().to_owned());
        other.result_of("task.create", arguments).await;
    }
    client.result_of("task.update", json!({"task_id": made[0], "status": "done"})).await;
    for (query, expected) in [
        ("", vec![2, 1, 0]),
        ("?status=open", vec![2, 1]),
        ("?status=done", vec![0]),
        ("?status=cancelled", vec![]),
        ("?assignee=ada", vec![2, 0]),
        ("?assignee=ADA", vec![]),
        ("?label=audit", vec![1, 0]),
        ("?label=gr%C3%B6%C3%9Fe", vec![1]),
        ("?label=aud", vec![]),
        ("?status=open&assignee=ada&label=audit", vec![]),
        ("?status=done&assignee=ada&label=audit", vec![0]),
    ] {
        let page = client.get(&format!("/v1/tasks{query}")).await.json();
        let expected: Vec<_> = expected.into_iter().map(|index: usize| made[index].as_str()).collect();
        assert_eq!(ids(page["items"].as_array().unwrap()), expected, "{query}");
    }
}

#[tokio::test]
async fn a_filter_that_can_mean_nothing_is_refused() {
    let app = TestApp::start().await;
    let client = app.admin();
    client.result_of("task.create", json!({"title": "T"})).await;
    client.result_of("task.create", json!({"title": "U"})).await;
    for (query, pointer) in [
        ("?status=finished", "status"),
        ("?status=Open", "status"),
        ("?status=", "status"),
        ("?status=open&status=done", "status"),
        ("?assignee=a%00", "assignee"),
        ("?assignee=a&assignee=b", "assignee"),
        ("?label=%00", "label"),
        ("?labels=a", "labels"),
    ] {
        let problem = client.get(&format!("/v1/tasks{query}")).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}: {problem}");
    }
    let page = client.get("/v1/tasks?limit=1&status=open").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    client.get(&format!("/v1/tasks?limit=1&status=done&cursor={cursor}")).await.problem(400, "invalid");
    assert_eq!(client.get(&format!("/v1/tasks?limit=1&status=open&cursor={cursor}")).await.status, 200);
}

#[tokio::test]
async fn pages_stay_what_they_are_while_tasks_are_changed() {
    let app = TestApp::start().await;
    let client = app.admin();
    for number in 0..5 {
        client.result_of("task.create", json!({"title": format!("{number}")})).await;
    }
    let before = client.pages("/v1/tasks?limit=2", "cursor").await;
    let first = client.get("/v1/tasks?limit=2").await.json();
    for task in &before {
        client.result_of("task.update", json!({"task_id": task["task_id"], "status": "in_progress"})).await;
    }
    let second = client.get(&format!("/v1/tasks?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!(ids(second["items"].as_array().unwrap()), ids(&before)[2..4]);
    let after = client.pages("/v1/tasks?limit=2", "cursor").await;
    assert_eq!(ids(&after), ids(&before));
    assert!(after.iter().all(|task| task["version"] == 2 && task["position"] != task["updated_position"]), "{after:?}");
}
