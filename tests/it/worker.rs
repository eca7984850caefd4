//! What a worker does when calls are slow, come twice, or outlive it.

use serde_json::{Value, json};
use toolgate_events::Lane;

use crate::app::{Answer, Child, Client, Role, Stack, Tenant, TestApp, Token, eventually, task, wait_until};

/// The three other roles, in processes of their own, and somebody to talk to them.
pub struct WithoutWorker {
    pub stack: Stack,
    pub client: Client,
    pub reader: Client,
    _children: [Child; 3],
}

impl WithoutWorker {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(command_api: &[(&str, &str)]) -> Self {
        let stack = Stack::new().await;
        let (commands, queries, projector) = tokio::join!(
            Child::start(&stack, Role::CommandApi, command_api),
            Child::start(&stack, Role::QueryApi, &[]),
            Child::start(&stack, Role::Projector, &[]),
        );
        let tenant = Tenant::new();
        let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
        let reader = client.at(queries.url());
        Self { stack, client, reader, _children: [commands, queries, projector] }
    }

    /// The types of a call's events once it has an outcome, and the call.
    pub async fn story(&self, call: &Answer) -> (Vec<String>, Value) {
        let path = format!("/v1/tool-calls/{}", call.call_id());
        let view = eventually("the call has an outcome", async || {
            let answer = self.reader.get(&path).await;
            (answer.status == 200 && answer.json()["finished_at"].is_string()).then(|| answer.json())
        })
        .await;
        let events = self.reader.get(&format!("{path}/events")).await.json();
        let types = events["items"].as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap().to_owned());
        (types.collect(), view)
    }

    /// Waits until no message of the lane is on its way to a worker or in its hands.
    pub async fn lane_is_quiet(&self, lane: &str) {
        let (log, lane) = (self.stack.log().await, Lane::new(lane).unwrap());
        wait_until("the lane is quiet", async || {
            let state = log.lane_state(&lane).await;
            state.pending == 0 && state.ack_pending == 0
        })
        .await;
    }
}

pub const SHORT_WAIT: (&str, &str) = ("TOOLGATE_ACK_WAIT_MS", "1000");

/// Lets a worker die at `point`, lets another take over, and tells the call's story.
async fn died_at(point: &str, body: &Value) -> (WithoutWorker, Vec<String>, Value) {
    let stage = WithoutWorker::start().await;
    let mut dying = Child::start(&stage.stack, Role::Worker, &[SHORT_WAIT, ("TOOLGATE_CRASH_AT", point)]).await;
    let call = stage.client.call("k", body).await;
    assert_eq!(call.status, 202, "{}", call.text());
    assert!(!dying.ended().await.success(), "it was to die at {point}");
    let _healthy = Child::start(&stage.stack, Role::Worker, &[SHORT_WAIT]).await;
    let (types, view) = stage.story(&call).await;
    stage.lane_is_quiet("task").await;
    let outcomes = "select count(*) from audit_event where event_type in ('tool_call_succeeded', 'tool_call_failed')";
    assert_eq!(stage.stack.count(outcomes).await, 1);
    (stage, types, view)
}

#[tokio::test]
async fn a_worker_that_dies_before_the_effect_is_taken_over_and_the_log_says_so() {
    let (stage, types, view) = died_at("worker.claimed", &task()).await;
    // The first run needed no claim; a message that comes again is claimed, so that its attempts are counted.
    assert_eq!(types, ["tool_call_requested", "tool_call_started", "tool_call_succeeded"]);
    assert_eq!((&view["status"], &view["attempts"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(stage.stack.count("select count(*) from task").await, 1);
}

#[tokio::test]
async fn a_worker_that_dies_after_the_effect_leaves_one_task() {
    let (stage, types, view) = died_at("worker.effect", &task()).await;
    assert_eq!(types, ["tool_call_requested", "tool_call_started", "tool_call_succeeded"]);
    assert_eq!(view["attempts"], 1);
    assert_eq!(stage.stack.count("select count(*) from task").await, 1);
}

#[tokio::test]
async fn a_call_that_comes_again_after_its_outcome_runs_nothing() {
    let (stage, types, view) = died_at("worker.recorded", &task()).await;
    assert_eq!(types, ["tool_call_requested", "tool_call_succeeded"]);
    assert_eq!(view["attempts"], 1);
    assert_eq!(stage.stack.count("select count(*) from task").await, 1);
}

#[tokio::test]
async fn a_call_without_a_claim_is_run_again_and_recorded_once() {
    let body = json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "# Hi", "format": "html"}});
    let (stage, types, view) = died_at("worker.effect", &body).await;
    assert_eq!(types, ["tool_call_requested", "tool_call_started", "tool_call_succeeded"]);
    assert_eq!(view["status"], "succeeded");
    assert_eq!(stage.stack.count("select count(*) from document").await, 1);
    let artifact = stage.reader.get(&format!("/v1/artifacts/{}", view["result"]["artifact_id"].as_str().unwrap())).await;
    assert_eq!(artifact.status, 200);
}

#[tokio::test]
async fn a_call_that_kills_every_worker_ends_as_failed() {
    let stage = WithoutWorker::start().await;
    let call = stage.client.call("k", &task()).await;
    // task.create may be tried five times, and the first time needs no claim and does not count.
    for _ in 0..6 {
        let mut dying =
            Child::start(&stage.stack, Role::Worker, &[("TOOLGATE_ACK_WAIT_MS", "300"), ("TOOLGATE_CRASH_AT", "worker.claimed")])
                .await;
        assert!(!dying.ended().await.success());
    }
    let _healthy = Child::start(&stage.stack, Role::Worker, &[SHORT_WAIT]).await;
    let (types, view) = stage.story(&call).await;
    assert_eq!(types.iter().filter(|name| *name == "tool_call_retried").count(), 4);
    assert_eq!(view["status"], "failed");
    assert_eq!(view["error"]["type"], "urn:toolgate:tool:attempts-exhausted", "{view}");
    assert_eq!(stage.stack.count("select count(*) from task").await, 0);
}

#[tokio::test]
async fn a_client_whose_answer_was_lost_asks_again_and_has_one_call() {
    let stage = WithoutWorker::with(&[("TOOLGATE_CRASH_AT", "command-api.appended")]).await;
    let request = stage.client.request(reqwest::Method::POST, "/v1/tool-calls").header("idempotency-key", "k").json(&task());
    assert!(request.send().await.is_err(), "the API was to die before its answer");
    assert_eq!(stage.stack.events_in_log().await, 1);
    let healthy = Child::start(&stage.stack, Role::CommandApi, &[]).await;
    let _worker = Child::start(&stage.stack, Role::Worker, &[]).await;
    let again = stage.client.at(healthy.url()).call_and_wait("k", &task()).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["status"], "succeeded", "{}", again.text());
    stage.story(&again).await;
    assert_eq!(stage.stack.count("select count(*) from tool_call").await, 1);
    assert_eq!(stage.stack.count("select count(*) from task").await, 1);
}

#[tokio::test]
async fn a_tool_that_takes_longer_than_the_caller_allows_is_failed_with_a_timeout() {
    let app = TestApp::start().await;
    let client = app.admin();
    // Some tens of thousands of steps: far more than a millisecond, far less than the limit of the template.
    let markdown = "{% for i in range(300) %}{% for j in range(300) %}{{ j }}{% endfor %}{% endfor %}";
    let body = json!({
        "tool": "document.render",
        "arguments": {"title": "T", "markdown": markdown, "data": {}, "format": "html"},
        "options": {"timeout_ms": 1},
    });
    let call = client.call_and_wait("k", &body).await.json();
    assert_eq!(call["status"], "failed", "{call}");
    assert_eq!(call["error"]["type"], "urn:toolgate:tool:timeout", "{call}");
    assert!(call["error"]["detail"].as_str().unwrap().contains("1 ms"), "{call}");
    let projected = client.get_projected(&call).await;
    assert_eq!(projected["error"], call["error"]);
    assert_eq!(app.stack.count("select count(*) from document").await, 0);
    // Without the wish the same call is done in time.
    let mut patient = body.clone();
    patient.as_object_mut().unwrap().remove("options");
    assert_eq!(client.call_and_wait("l", &patient).await.json()["status"], "succeeded");
}

#[tokio::test]
async fn a_worker_serves_only_the_lanes_it_was_given() {
    let stage = WithoutWorker::start().await;
    let _worker = Child::start(&stage.stack, Role::Worker, &[("TOOLGATE_LANES", "search")]).await;
    let waiting = stage.client.call("k", &task()).await;
    let search = json!({"tool": "knowledge.search", "arguments": {"query": "x"}});
    assert_eq!(stage.client.call_and_wait("l", &search).await.json()["status"], "succeeded");
    assert_eq!(stage.reader.get(waiting.header("location")).await.json()["status"], "requested");
    let _other = Child::start(&stage.stack, Role::Worker, &[("TOOLGATE_LANES", "task")]).await;
    let (_, view) = stage.story(&waiting).await;
    assert_eq!(view["status"], "succeeded");
}
