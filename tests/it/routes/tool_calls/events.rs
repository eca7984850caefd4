//! `GET /v1/tool-calls/{call_id}/events`

use serde_json::json;

use crate::app::{TestApp, task};

#[tokio::test]
async fn a_calls_events_come_in_order_and_only_its_own() {
    let app = TestApp::start().await;
    let client = app.admin();
    // Effectful, so that it is claimed; the request may not leave.
    let body = json!({"tool": "http.request", "arguments": {"method": "POST", "url": "https://nowhere.example/"}});
    let call = client.call_and_wait("k", &body).await.json();
    client.call_and_wait("other", &task()).await;
    client.get_projected(&call).await;
    let events = client.get(&format!("{}/events", call["links"]["self"].as_str().unwrap())).await.json();
    let events = events["items"].as_array().unwrap();
    let types: Vec<_> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["tool_call_requested", "tool_call_started", "tool_call_failed"]);
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(event["aggregate_id"], call["call_id"]);
        assert_eq!(event["correlation_id"], call["call_id"]);
        assert_eq!(event["aggregate_sequence"], sequence.to_string());
    }
    // Each is caused by the one before it; the first by nobody.
    assert_eq!(events[0]["causation_id"], serde_json::Value::Null);
    assert_eq!(events[1]["causation_id"], events[0]["event_id"]);
    assert_eq!(events[2]["causation_id"], events[1]["event_id"]);
}

#[tokio::test]
async fn the_request_records_the_decision_that_let_it_in() {
    let app = TestApp::start().await;
    let client = app.client(crate::app::Tenant::new(), "agent");
    let accepted = client.call("k", &task()).await;
    let events = client.get(&format!("{}/events", accepted.header("location"))).await.json();
    let decision = &events["items"][0]["data"]["authorization"];
    assert_eq!(decision["principal"], "tester");
    assert_eq!(decision["roles"], serde_json::json!(["agent"]));
    assert_eq!(decision["rule"], "role agent: tool.*.*:invoke");
    assert_eq!(decision["tool_version"], 2);
    for hash in ["policy_version", "contract_hash"] {
        assert_eq!(decision[hash].as_str().map(str::len), Some(64), "{hash}");
    }
}
