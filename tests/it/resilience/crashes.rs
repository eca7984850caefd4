//! A worker dies between two attempts, or with an effect on its way.

use serde_json::{Value, json};

use super::{Upstream, request, unhurried_about_news};
use crate::{
    app::{Child, Role},
    worker::{SHORT_WAIT, WithoutWorker},
};

/// Lets a worker die at `point`, lets another take over, and tells the call's story.
async fn died_at(point: &str, upstream: &Upstream, body: &Value) -> (Vec<String>, Value) {
    let stage = WithoutWorker::start().await;
    let allowed = upstream.authority();
    let egress = [("TOOLGATE_EGRESS_ALLOW", allowed.as_str()), ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8"), SHORT_WAIT];
    let dying = [&egress[..], &[("TOOLGATE_CRASH_AT", point)]].concat();
    let mut dying = Child::start(&stage.stack, Role::Worker, &dying).await;
    let call = stage.client.call("k", body).await;
    assert_eq!(call.status, 202, "{}", call.text());
    assert!(!dying.ended().await.success(), "it was to die at {point}");
    let _healthy = Child::start(&stage.stack, Role::Worker, &egress).await;
    let (types, view) = stage.story(&call).await;
    stage.lane_is_quiet("http").await;
    (types.iter().map(|name| name.trim_start_matches("tool_call_").to_owned()).collect(), view)
}

#[tokio::test]
async fn an_effectful_call_whose_worker_died_is_unknown_and_not_run_again() {
    let upstream = Upstream::start().await;
    let body = request("POST", &upstream.url("/order"));
    // Before the request was sent, and after it was answered: from outside they look the same.
    for (point, sent) in [("worker.claimed", 0), ("worker.effect", 1)] {
        let (types, view) = died_at(point, &upstream, &body).await;
        assert_eq!(types, ["requested", "started", "failed"], "{point}");
        assert_eq!(view["error"]["type"], "urn:toolgate:tool:outcome-unknown", "{point}: {view}");
        assert_eq!(upstream.seen("POST /order"), sent, "{point}");
    }
}

#[tokio::test]
async fn a_read_whose_worker_died_is_run_again() {
    let upstream = Upstream::start().await;
    let (types, view) = died_at("worker.effect", &upstream, &request("GET", &upstream.url("/rates"))).await;
    assert_eq!(types, ["requested", "started", "succeeded"]);
    assert_eq!((&view["status"], upstream.seen("GET /rates")), (&json!("succeeded"), 2));
}

#[tokio::test]
async fn a_worker_that_dies_between_two_attempts_is_taken_over() {
    for (point, expected, attempts) in [
        ("worker.failed", &["requested", "started", "succeeded"][..], 1),
        ("worker.retried", &["requested", "retried", "retried", "succeeded"], 3),
    ] {
        let upstream = Upstream::start().await;
        let (types, view) = died_at(point, &upstream, &request("GET", &upstream.url("/flaky/1"))).await;
        assert_eq!(types, expected, "{point}");
        assert_eq!((&view["status"], &view["attempts"]), (&json!("succeeded"), &json!(attempts)), "{point}: {view}");
        assert_eq!(upstream.seen("GET /flaky/1"), 2, "{point}");
    }
}

#[tokio::test]
async fn a_worker_that_dies_with_a_kept_result_in_its_hands_is_taken_over() {
    let upstream = Upstream::start().await;
    let stage = WithoutWorker::start().await;
    let allowed = upstream.authority();
    let egress = [("TOOLGATE_EGRESS_ALLOW", allowed.as_str()), ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8"), SHORT_WAIT];
    let dying = [&egress[..], &[("TOOLGATE_CRASH_AT", "worker.reused")]].concat();
    let mut dying = Child::start(&stage.stack, Role::Worker, &dying).await;
    let body = unhurried_about_news(&upstream.url("/rates"));
    assert_eq!(stage.client.call_and_wait("first", &body).await.json()["cached"], false);
    let call = stage.client.call("second", &body).await;
    assert!(!dying.ended().await.success(), "it was to die with the second call");
    let _healthy = Child::start(&stage.stack, Role::Worker, &egress).await;
    let (types, view) = stage.story(&call).await;
    assert_eq!(types, ["tool_call_requested", "tool_call_started", "tool_call_succeeded"]);
    assert_eq!((&view["cached"], upstream.seen("GET /rates")), (&json!(false), 2), "the other worker has kept nothing");
}
