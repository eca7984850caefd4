//! `GET /v1/tools` and `GET /v1/tools/{name}`

use serde_json::json;

use crate::app::{Tenant, TestApp, Token};

#[tokio::test]
async fn a_caller_sees_only_the_tools_it_may_invoke() {
    let app = TestApp::start().await;
    let all = app.admin().get("/v1/tools").await.json();
    let names = |list: &serde_json::Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    for tool in ["knowledge.upsert", "knowledge.search", "document.render", "task.create", "http.request"] {
        assert!(names(&all).contains(&tool.to_owned()), "{tool} is not in {all}");
        let one = app.admin().get(&format!("/v1/tools/{tool}")).await.json();
        assert!(one["input_schema"].is_object() && one["output_schema"].is_object() && one["lane"].is_string(), "{one}");
    }
    let tenant = Tenant::new();
    let token = Token::of(tenant, "nobody").claim("permissions", json!(["tool:list", "tool.task.create:invoke"]));
    let narrow = app.client_with(tenant, &token);
    assert_eq!(names(&narrow.get("/v1/tools").await.json()), ["task.create"]);
    assert_eq!(narrow.get("/v1/tools/task.create").await.status, 200);
    // A tool that exists for others looks like one that does not exist.
    let hidden = narrow.get("/v1/tools/knowledge.search").await.problem(404, "not-found");
    let unknown = narrow.get("/v1/tools/no.such").await.problem(404, "not-found");
    assert_eq!(hidden["detail"], unknown["detail"]);
}

#[tokio::test]
async fn the_examples_of_every_tool_are_accepted() {
    let app = TestApp::start().await;
    let client = app.admin();
    let tools = client.get("/v1/tools").await.json();
    for tool in tools["items"].as_array().unwrap() {
        for (number, arguments) in tool["examples"].as_array().unwrap().iter().enumerate() {
            let body = json!({"tool": tool["name"], "arguments": arguments});
            let answer = client.call_and_wait(&format!("k{number}"), &body).await;
            // Nobody has allowed it any host, there is no such task, and the last is not set up.
            let fails = ["http.request", "task.update", "task.get", "basehub.query"].iter().any(|name| tool["name"] == *name);
            let status = if fails { "failed" } else { "succeeded" };
            assert_eq!(answer.json()["status"], status, "{}: {}", tool["name"], answer.text());
            // The next example may be about what this one made.
            client.get_projected(&answer.json()).await;
        }
    }
}
