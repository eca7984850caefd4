//! `POST /v1/tool-calls`: when the log takes nothing.

use serde_json::json;

use crate::app::{Stack, TestApp, task};

#[tokio::test]
async fn a_full_log_is_503_and_takes_nothing_more() {
    let mut app = TestApp::start_with(|settings| settings.log_max_bytes = Some(4 * 16 * 1024)).await;
    // The outcomes of the last calls no longer fit either.
    app.leaves_work();
    let client = app.admin();
    let body = json!({"tool": "task.create", "arguments": {"title": "T", "description": "x".repeat(4_000)}});
    let mut accepted = 0;
    let refused = loop {
        let answer = client.call(&format!("k{accepted}"), &body).await;
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 10, "the limit does not hold");
    };
    assert!(accepted > 0);
    let problem = refused.problem(503, "unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("full"), "{problem}");
    assert_ne!(refused.header("retry-after"), "");
    let requested = "select count(*) from audit_event where event_type = 'tool_call_requested'";
    client.call("refused", &body).await.problem(503, "unavailable");
    crate::app::wait_until("what was accepted is projected", async || app.stack.count(requested).await == accepted).await;
}

#[tokio::test]
async fn without_nats_it_is_503_and_the_same_key_is_safe_afterwards() {
    let (stack, mut services) = Stack::private(false).await;
    let app = TestApp::on(stack, |_| ()).await;
    let client = app.admin();
    assert_eq!(client.call_and_wait("before", &task()).await.status, 200);
    services.nats_mut().unwrap().kill().await;
    let refused = client.call("during", &task()).await;
    refused.problem(503, "unavailable");
    assert_ne!(refused.header("retry-after"), "");
    services.nats_mut().unwrap().restart().await.unwrap();
    // The client library may have kept the publish and sent it on: either way it is one call.
    let again = crate::app::eventually("the log is back", async || {
        let answer = client.call_and_wait("during", &task()).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    client.get_projected(&again.json()).await;
    assert_eq!(app.stack.count("select count(*) from tool_call").await, 2);
    assert_eq!(app.stack.count("select count(*) from task").await, 2);
    drop(app);
}
