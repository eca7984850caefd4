//! One agent session from end to end over plain HTTP: it searches, renders what it found, makes a task of it, and every step of it
//! is on record.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use toolgate_events::audit::{self, AuditRow};

use crate::app::{Client, Frame, TestApp, send};

const SESSION: &str = "session-1";
const CONTENT: &str = "The projector keeps a checkpoint in the same transaction as its rows, so that neither can be lost alone.";

/// A call of the session that must succeed: the whole answer.
async fn call(client: &Client, tool: &str, arguments: Value) -> Value {
    let body = json!({"tool": tool, "arguments": arguments, "session_id": SESSION});
    let answer = client.call_and_wait(&format!("{SESSION}-{tool}"), &body).await;
    assert_eq!(answer.status, 200, "{tool}: {answer:?}");
    let call = answer.json();
    assert_eq!(call["status"], "succeeded", "{call}");
    assert_eq!(call["session_id"], SESSION);
    call
}

#[tokio::test]
async fn knowledge_document_task_and_audit_are_one_session() {
    let app = TestApp::start().await;
    let client = app.admin();
    let mut stream = client.events(&format!("?session_id={SESSION}&after=0"), None).await;

    let document = json!({"document_id": "adr-1", "title": "Checkpoints", "content": CONTENT});
    let loaded = call(&client, "knowledge.upsert", document).await;
    let found = call(&client, "knowledge.search", json!({"query": "checkpoint"})).await;
    assert_eq!(found["result"]["hits"].as_array().unwrap().len(), 1, "{found}");
    let hit = &found["result"]["hits"][0];
    assert_eq!((&hit["document_id"], &hit["title"]), (&json!("adr-1"), &json!("Checkpoints")));
    assert!(hit["highlight"].as_str().unwrap().contains("<mark>checkpoint</mark>"), "{hit}");

    let markdown = "# Found\n\n{% for hit in hits %}- {{ hit.title }} ({{ hit.document_id }})\n{% endfor %}";
    let arguments = json!({"title": "Found", "markdown": markdown, "data": found["result"], "format": "pdf"});
    let rendered = call(&client, "document.render", arguments).await;
    check_artifact(&client, &rendered).await;

    let task = call(&client, "task.create", json!({"title": "Read what was found", "labels": ["session"]})).await;
    let tasks = client.get("/v1/tasks").await.json();
    assert_eq!(tasks["items"].as_array().unwrap().len(), 1, "{tasks}");
    let listed = &tasks["items"][0];
    assert_eq!(listed["task_id"], task["result"]["task_id"]);
    assert_eq!((&listed["call_id"], &listed["title"]), (&task["call_id"], &json!("Read what was found")));

    let calls = [loaded, found, rendered, task];
    let rows = trail(&client).await;
    check_rows(&calls, &rows);
    let frames = stream.events(rows.len()).await;
    let seen: Vec<_> = frames.iter().map(|frame| (frame.position(), frame.name().to_owned())).collect();
    assert_eq!(seen, rows.iter().map(|row| (row.position, row.event_type.clone())).collect::<Vec<_>>());
    assert!(frames.iter().all(|frame: &Frame| frame.json()["sessionid"] == SESSION));
    let of_session = client.get(&format!("/v1/tool-calls?session_id={SESSION}")).await.json();
    let listed: Vec<_> = of_session["items"].as_array().unwrap().iter().rev().map(|call| &call["call_id"]).collect();
    assert_eq!(listed, calls.iter().map(|call| &call["call_id"]).collect::<Vec<_>>());
}

/// The bytes are those that the call promised, and a PDF.
async fn check_artifact(client: &Client, rendered: &Value) {
    let result = &rendered["result"];
    let path = format!("/v1/artifacts/{}", result["artifact_id"].as_str().unwrap());
    let artifact = send(client.request(Method::GET, &path)).await;
    assert_eq!(artifact.status, 200);
    let digest: String = Sha256::digest(&artifact.body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(result["sha256"], digest);
    assert_eq!(result["size"], artifact.body.len());
    assert_eq!(result["content_type"], artifact.header("content-type"));
    assert_eq!((&result["content_type"], &result["pages"]), (&json!("application/pdf"), &json!(1)));
    assert!(artifact.body.starts_with(b"%PDF-"), "{:?}", artifact.body.get(..16));
    assert!(artifact.body.trim_ascii_end().ends_with(b"%%EOF"));
    let documents = client.get("/v1/documents").await.json();
    assert_eq!(documents["items"][0]["artifact_id"], result["artifact_id"]);
    assert_eq!(documents["items"][0]["call_id"], rendered["call_id"]);
}

/// The whole trail, whose chain holds from the beginning.
async fn trail(client: &Client) -> Vec<AuditRow> {
    let rows = client.audit().await.into_iter().map(|row| serde_json::from_value(row).unwrap());
    let rows: Vec<AuditRow> = rows.collect();
    let mut before = (0, audit::genesis_hash(client.tenant.id()));
    for row in &rows {
        assert_eq!(audit::verify((before.0, &before.1), row), Ok(()));
        before = (row.position, row.hash.clone());
    }
    rows
}

/// Every call has its rows in order, one call after the other, and there are no others.
fn check_rows(calls: &[Value], rows: &[AuditRow]) {
    let mut rest = rows;
    for call in calls {
        let count = rest.iter().take_while(|row| call["call_id"] == json!(row.aggregate_id)).count();
        let (own, others) = rest.split_at(count);
        rest = others;
        let types: Vec<_> = own.iter().map(|row| row.event_type.as_str()).collect();
        // Effectful tools are claimed before they run.
        let claimed = ["tool_call_requested", "tool_call_started", "tool_call_succeeded"];
        assert!(types == claimed || types == [claimed[0], claimed[2]], "{}: {types:?}", call["tool"]);
        let sequences: Vec<_> = own.iter().map(|row| row.aggregate_sequence).collect();
        assert_eq!(sequences, (1..=own.len() as u64).collect::<Vec<_>>());
        assert_eq!(own[0].data["session_id"], SESSION);
        assert_eq!(own[0].data["tool"], call["tool"]);
        assert_ne!(own[count - 1].data["result"], call["result"], "the trail shows what was recorded");
        assert!(own.iter().all(|row| json!(row.correlation_id) == call["call_id"]));
    }
    assert!(rest.is_empty(), "rows of no call: {rest:?}");
}
