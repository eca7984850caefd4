//! One key, one call: whoever asks, how often, and wherever.

use futures::{StreamExt, stream};
use uuid::Uuid;

use crate::app::{Answer, Client, TestApp, Token, task, task_titled};

const POSTS: usize = 100;

async fn post_all(clients: Vec<Client>, key: &'static str) -> Vec<Answer> {
    stream::iter(clients)
        .map(|client| async move { client.call_and_wait(key, &task()).await })
        .buffer_unordered(POSTS)
        .collect()
        .await
}

/// All answers are the same success, and all but `firsts` of them say that they are repetitions.
fn assert_one_call(answers: &[Answer], firsts: usize) -> Uuid {
    let mut call = answers[0].json();
    call.as_object_mut().unwrap().remove("position");
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut other = answer.json();
        other.as_object_mut().unwrap().remove("position");
        assert_eq!(other, call);
    }
    let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
    assert_eq!(replayed, answers.len() - firsts);
    answers[0].call_id()
}

async fn assert_executed_once(app: &TestApp) {
    let count =
        async |event: &str| app.stack.count(&format!("select count(*) from audit_event where event_type = '{event}'")).await;
    for event in ["tool_call_requested", "tool_call_succeeded"] {
        assert_eq!(count(event).await, 1, "{event}");
    }
    assert_eq!(app.stack.count("select count(*) from audit_event").await, 2);
    assert_eq!(app.stack.count("select count(*) from task").await, 1);
    assert_eq!(app.stack.count("select count(*) from tool_call").await, 1);
}

#[tokio::test]
async fn a_hundred_posts_at_once_are_one_call_before_and_after_a_restart() {
    let mut app = TestApp::start().await;
    let client = app.admin();
    let answers = post_all(vec![client.clone(); POSTS], "k").await;
    let call = assert_one_call(&answers, 1);
    client.get_projected(&answers[0].json()).await;
    assert_executed_once(&app).await;

    app.restart().await;
    let client = client.at(app.url());
    let answers = post_all(vec![client.clone(); 10], "k").await;
    assert_eq!(assert_one_call(&answers, 0), call);
    client.call("k", &task_titled("other")).await.problem(422, "idempotency-mismatch");
    assert_executed_once(&app).await;
}

#[tokio::test]
async fn two_instances_on_one_log_agree() {
    let app = TestApp::start().await;
    let other = app.another_instance().await;
    let client = app.admin();
    let there = client.at(format!("http://{}", other.address));
    let clients = [client.clone(), there.clone()].into_iter().cycle().take(POSTS).collect();
    let answers = post_all(clients, "k").await;
    assert_one_call(&answers, 1);
    for client in [&client, &there] {
        client.call("k", &task_titled("other")).await.problem(422, "idempotency-mismatch");
        client.get_projected(&answers[0].json()).await;
    }
    assert_executed_once(&app).await;
    other.stop().await;
}

#[tokio::test]
async fn a_key_is_a_principals_own_and_a_tools_own() {
    let app = TestApp::start().await;
    let client = app.admin();
    let somebody = app.client_with(client.tenant, &Token::of(client.tenant, "agent").subject("somebody-else"));
    let stranger = app.admin();
    let search = serde_json::json!({"tool": "knowledge.search", "arguments": {"query": "x"}});
    let calls = [
        client.call_and_wait("k", &task()).await,
        somebody.call_and_wait("k", &task()).await,
        stranger.call_and_wait("k", &task()).await,
        client.call_and_wait("k", &search).await,
    ];
    let mut ids: Vec<_> = calls.iter().map(Answer::call_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(calls.iter().all(|call| call.header("idempotency-replayed").is_empty()));
}

#[tokio::test]
async fn the_order_of_keys_in_the_body_does_not_make_it_another_request() {
    let app = TestApp::start().await;
    let client = app.admin();
    let post = async |text: &'static str| {
        let request = client.request(reqwest::Method::POST, "/v1/tool-calls").header("idempotency-key", "k");
        crate::app::send(request.header("content-type", "application/json").body(text)).await
    };
    let first = post(r#"{"tool":"task.create","arguments":{"title":"T","labels":["a"]}}"#).await;
    let second = post(r#"{ "arguments": {"labels": ["\u0061"], "title": "T"}, "tool": "task.create" }"#).await;
    assert_eq!(second.call_id(), first.call_id());
    assert_eq!(second.header("idempotency-replayed"), "true");
}
