//! `GET /openapi.json`: the description and the service must not drift apart.

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::app::{TestApp, send};

#[tokio::test]
async fn every_described_operation_exists_and_needs_a_token() {
    let app = TestApp::start().await;
    let client = app.admin();
    let document = send(client.anonymous(Method::GET, "/openapi.json")).await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let paths = document["paths"].as_object().unwrap();
    let mut operations = 0;
    for (path, item) in paths {
        let concrete = path
            .split('/')
            .map(|segment| if segment.starts_with('{') { Uuid::from_u128(1).to_string() } else { segment.to_owned() })
            .collect::<Vec<_>>()
            .join("/");
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            operations += 1;
            let described = operation["responses"].as_object().unwrap();
            if operation["security"] == serde_json::json!([{}]) {
                // It is opened by a signature, and is not there where none is set up.
                send(client.anonymous(method.clone(), &concrete)).await.problem(404, "not-found");
                assert!(described.contains_key("401") && described.contains_key("404"), "{method} {path}");
                continue;
            }
            let anonymous = send(client.anonymous(method.clone(), &concrete)).await;
            anonymous.problem(401, "unauthenticated");
            assert!(described.contains_key("401"), "{method} {path} does not describe its 401");
            let response = client.request(method.clone(), &concrete).send().await.unwrap();
            let status = response.status().as_u16();
            assert_ne!(status, 405, "{method} {path}");
            if status == 404 {
                let problem: Value = response.json().await.unwrap();
                assert_ne!(problem["detail"], "there is no such path", "{method} {path}");
            }
            assert!(described.contains_key(&status.to_string()), "{method} {path} answered {status}, which is not described");
        }
    }
    assert!(operations >= 13, "only {operations} operations are described");
    for path in
        ["/v1/tool-calls", "/v1/tool-calls/{call_id}", "/v1/events", "/v1/audit", "/v1/audit/export", "/v1/tools", "/v1/tasks"]
    {
        assert!(paths.contains_key(path), "{path} is not described");
    }
}

#[tokio::test]
async fn every_reference_in_the_description_leads_somewhere() {
    let app = TestApp::start().await;
    let document = app.admin().get("/openapi.json").await.json();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leaves the document"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
