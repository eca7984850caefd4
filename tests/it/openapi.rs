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

#[tokio::test]
async fn the_reference_loads_nothing_and_shows_every_operation() {
    let app = TestApp::start().await;
    let client = app.admin();
    let page = send(client.anonymous(Method::GET, "/docs")).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"), "{}", page.header("content-type"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let text = page.text();
    for foreign in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!text.contains(foreign), "the page has {foreign}");
    }
    let mut links = text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(links.all(|link| link.starts_with('#') || link.starts_with('/')), "the page leads elsewhere");
    let document = client.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{path} has an operation without a name"));
            assert!(text.contains(&format!("<details id=\"{id}\">")), "{id} of {path} is not on the page");
        }
    }
}

#[tokio::test]
async fn the_event_stream_is_described_to_everybody_as_it_is_written_down() {
    let app = TestApp::start().await;
    let client = app.admin();
    let served = send(client.anonymous(Method::GET, "/asyncapi.json")).await.json();
    assert_eq!(served, toolgate_query_api::asyncapi());
    let mut references = Vec::new();
    collect(&served, &mut references);
    for reference in references {
        assert!(served.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn what_comes_over_the_stream_is_what_is_described() {
    let app = TestApp::start().await;
    let client = app.admin();
    let document = client.get("/asyncapi.json").await.json();
    client.call_and_wait("k", &crate::app::task()).await;
    let mut stream = client.events("?after=0", None).await;
    for frame in stream.events(2).await {
        let message = format!("#/components/messages/{}/payload", frame.name());
        let schema = serde_json::json!({"components": document["components"], "$ref": message});
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        validator.validate(&frame.json()).unwrap_or_else(|error| panic!("{}: {error}", frame.name()));
        let mut changed = frame.json();
        changed["data"].as_object_mut().unwrap().remove("tool");
        assert!(!validator.is_valid(&changed), "{} may be anything", frame.name());
    }
}
