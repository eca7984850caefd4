//! `POST /v1/tool-calls/{call_id}/cancel`

use reqwest::Method;
use uuid::Uuid;

use crate::app::{Child, Client, Role, Stack, Tenant, TestApp, Token, eventually, send, task, wait_until};

#[tokio::test]
async fn a_call_with_an_outcome_cannot_be_cancelled() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await;
    let cancel = format!("/v1/tool-calls/{}/cancel", call.call_id());
    let problem = client.post(&cancel).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("succeeded"), "{problem}");
    client.get_projected(&call.json()).await;
    assert_eq!(client.audit().await.len(), 2, "nothing follows an outcome");
}

#[tokio::test]
async fn who_may_not_cancel_is_refused() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    let cancel = format!("/v1/tool-calls/{}/cancel", Uuid::from_u128(1));
    let viewer = app.client(tenant, "viewer");
    viewer.post(&cancel).await.problem(403, "forbidden");
    send(viewer.anonymous(Method::POST, &cancel)).await.problem(401, "unauthenticated");
    app.client(tenant, "agent").post(&cancel).await.problem(404, "not-found");
    app.client(tenant, "agent").post("/v1/tool-calls/x/cancel").await.problem(404, "not-found");
    app.client(tenant, "agent").get(&cancel).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn a_call_cancelled_before_a_worker_comes_is_never_run() {
    let stack = Stack::new().await;
    let (commands, queries, _projector) = tokio::join!(
        Child::start(&stack, Role::CommandApi, &[]),
        Child::start(&stack, Role::QueryApi, &[]),
        Child::start(&stack, Role::Projector, &[]),
    );
    let tenant = Tenant::new();
    let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let reader = client.at(queries.url());
    let cancelled = client.call("cancelled", &task()).await;
    let kept = client.call("kept", &task()).await;
    let answer = client.post(&format!("/v1/tool-calls/{}/cancel", cancelled.call_id())).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["status"], "cancelled");
    client.post(&format!("/v1/tool-calls/{}/cancel", cancelled.call_id())).await.problem(409, "conflict");

    let _worker = Child::start(&stack, Role::Worker, &[]).await;
    assert_eq!(reader.get_projected(&kept.json()).await["status"], "succeeded");
    let task_lane = toolgate_events::Lane::new("task").unwrap();
    let log = stack.log().await;
    wait_until("the worker has seen every message", async || {
        let lane = log.lane_state(&task_lane).await;
        lane.pending == 0 && lane.ack_pending == 0
    })
    .await;
    let view = eventually("the call is projected", async || {
        let answer = reader.get(cancelled.header("location")).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(view["status"], "cancelled");
    assert_eq!(view["attempts"], 0);
    let events = reader.get(view["links"]["events"].as_str().unwrap()).await.json();
    let types: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["tool_call_requested", "tool_call_cancelled"]);
    assert_eq!(stack.count("select count(*) from task").await, 1);
}
