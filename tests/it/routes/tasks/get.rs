//! `GET /v1/tasks`

use serde_json::json;

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
    assert_eq!(task["position"], "2");
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}
