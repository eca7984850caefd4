//! What this release cannot read stops nobody: it is on record, set aside, and passed by.

use std::fs;

use serde_json::{Value, json};
use toolgate_events::{CallId, CallSubject, Lane, Partition};
use toolgate_store::Clock;

use crate::app::{Client, TestApp, eventually, publish_raw, task, wait_until};

fn golden(name: &str) -> Value {
    let path = format!("{}/../events/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A place for a new call of the client's tenant.
fn new_subject(client: &Client) -> CallSubject {
    CallSubject::new(4, client.tenant.id(), Lane::new("task").unwrap(), CallId(Clock::system().new_id()))
}

/// A golden event moved to that place.
fn moved(mut event: Value, subject: &CallSubject) -> Value {
    event["event_id"] = json!(Clock::system().new_id());
    event["tenant_id"] = json!(subject.tenant_id);
    event["aggregate_id"] = json!(subject.call_id);
    event["correlation_id"] = json!(subject.call_id);
    event
}

/// Makes what no release of toolgate has written.
type Strange = fn(&CallSubject) -> Vec<u8>;

#[tokio::test]
async fn what_cannot_be_read_is_recorded_parked_and_passed_by() {
    let app = TestApp::start().await;
    let client = app.admin();
    let strangers: [(&str, Strange); 6] = [
        ("tool_call_teleported", |subject| {
            let mut event = moved(golden("tool_call_requested.v2"), subject);
            event["event_type"] = json!("tool_call_teleported");
            event.to_string().into_bytes()
        }),
        ("tool_call_requested", |subject| {
            let mut event = moved(golden("tool_call_requested.v2"), subject);
            event["event_version"] = json!(99);
            event.to_string().into_bytes()
        }),
        ("tool_call_requested", |subject| {
            let mut event = moved(golden("tool_call_requested.v2"), subject);
            event["data"] = json!({"tool": 5, "number": 1e300});
            event.to_string().into_bytes()
        }),
        // Another tenant's, by its own word.
        ("unreadable", |_| golden("tool_call_requested.v2").to_string().into_bytes()),
        ("unreadable", |_| b"\xff\x00 no json\r\n".to_vec()),
        ("unreadable", |_| Vec::new()),
    ];
    let mut subjects = Vec::new();
    for (_, make) in strangers {
        let subject = new_subject(&client);
        publish_raw(&app.stack.connections.nats, &subject.to_string(), &make(&subject)).await;
        subjects.push(subject.to_string());
    }
    // The lane goes on, and so does the projection.
    let call = client.call_and_wait("after", &task()).await;
    assert_eq!(call.json()["status"], "succeeded", "{}", call.text());
    client.get_projected(&call.json()).await;

    let rows = client.audit().await;
    let types: Vec<_> = rows.iter().map(|row| row["event_type"].as_str().unwrap()).collect();
    let expected: Vec<_> =
        strangers.iter().map(|(name, _)| *name).chain(["tool_call_requested", "tool_call_succeeded"]).collect();
    assert_eq!(types, expected);
    assert_eq!(rows[4]["data"], json!({"bytes": "ff00206e6f206a736f6e0d0a"}));
    let mut before = (0, toolgate_events::audit::genesis_hash(client.tenant.id()));
    for row in rows {
        let row: toolgate_events::audit::AuditRow = serde_json::from_value(row).unwrap();
        assert_eq!(toolgate_events::audit::verify((before.0, &before.1), &row), Ok(()));
        before = (row.position, row.hash);
    }
    let partition = Partition::of(client.tenant.id(), 4);
    assert_eq!(app.stack.count("select count(*) from parked_event").await, 6);
    assert_eq!(app.stack.count("select count(*) from tool_call").await, 1);
    let log = app.stack.log().await;
    let parked = eventually("the workers set them aside", async || {
        let parked = log.parked().await.unwrap();
        (parked.len() == 6).then_some(parked)
    })
    .await;
    for parked in &parked {
        assert!(subjects.contains(&parked.subject) && parked.partition == partition.0 && !parked.reason.is_empty(), "{parked:?}");
    }
    // They show up in the stream like anything else.
    let frames = client.events("?after=0", None).await.events(8).await;
    assert_eq!(frames.iter().map(|frame| frame.name()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_request_of_the_first_version_is_executed_and_projected() {
    let app = TestApp::start().await;
    let client = app.admin();
    let subject = new_subject(&client);
    let event = moved(golden("tool_call_requested.v1"), &subject);
    publish_raw(&app.stack.connections.nats, &subject.to_string(), event.to_string().as_bytes()).await;
    let path = format!("/v1/tool-calls/{}", subject.call_id);
    let call = eventually("it has an outcome", async || {
        let answer = client.get(&path).await;
        (answer.status == 200 && answer.json()["finished_at"].is_string()).then(|| answer.json())
    })
    .await;
    assert_eq!(call["status"], "succeeded", "{call}");
    assert_eq!(call["session_id"], event["data"]["session_id"]);
    let tasks = client.get("/v1/tasks").await.json();
    assert_eq!(tasks["items"][0]["title"], event["data"]["arguments"]["title"]);
    let first = client.audit().await.swap_remove(0);
    assert_eq!((&first["event_version"], &first["data"]), (&json!(1), &event["data"]), "the trail shows it as it was written");
}

#[tokio::test]
async fn a_tool_that_no_longer_exists_fails_its_calls_and_not_its_lane() {
    let app = TestApp::start().await;
    let client = app.admin();
    let subject = new_subject(&client);
    let mut event = moved(golden("tool_call_requested.v2"), &subject);
    event["data"]["tool"] = json!("task.forgotten");
    publish_raw(&app.stack.connections.nats, &subject.to_string(), event.to_string().as_bytes()).await;
    let path = format!("/v1/tool-calls/{}", subject.call_id);
    wait_until("it has failed", async || client.get(&path).await.json()["status"] == "failed").await;
    assert_eq!(client.get(&path).await.json()["error"]["type"], "urn:toolgate:tool:unknown-tool");
    assert_eq!(client.call_and_wait("k", &task()).await.json()["status"], "succeeded");
}

/// Whoever may make a consumer can have the server deliver an event, unchanged, to where it does not belong.
#[tokio::test]
async fn a_copy_of_a_request_in_another_partition_is_not_run_again() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await;
    client.get_projected(&call.json()).await;
    let log = app.stack.log().await;
    let subject = log.locate(client.tenant.id(), CallId(call.call_id())).await.unwrap().unwrap();
    let request = log.load(&subject).await.unwrap().swap_remove(0).payload;
    let copy = CallSubject { partition: Partition((subject.partition.0 + 1) % log.partitions()), ..subject };
    publish_raw(&app.stack.connections.nats, &copy.to_string(), &request).await;
    let parked = eventually("the copy is set aside", async || log.parked().await.unwrap().pop()).await;
    assert_eq!((parked.partition, parked.reason.as_str()), (copy.partition.0, "the tenant lives in another partition"));
    assert_eq!(log.load(&copy).await.unwrap().len(), 1);
    assert_eq!(client.audit().await.len(), 2);
}
