//! Results that answer later calls.

use serde_json::{Value, json};
use toolgate_store::Invalidated;

use super::{Upstream, app, metric, outcome, request, unhurried_about_news};
use crate::app::{Stack, TestApp, eventually, wait_until};

#[tokio::test]
async fn a_result_answers_whoever_of_the_tenant_does_not_need_news() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let client = app.admin();
    let (url, seen) = (upstream.url("/rates"), || upstream.seen("GET /rates"));
    let first = outcome(&client, &unhurried_about_news(&url)).await;
    assert_eq!((&first["cached"], first.get("stale")), (&json!(false), None), "{first}");
    let second = outcome(&client, &unhurried_about_news(&url)).await;
    assert_eq!((&second["cached"], &second["result"]), (&json!(true), &first["result"]), "{second}");
    assert_eq!((second.get("stale"), seen()), (None, 1));
    let projected = client.get_projected(&second).await;
    assert_eq!((&projected["cached"], projected.get("stale")), (&json!(true), None), "{projected}");
    let events = client.get(&format!("/v1/tool-calls/{}/events", second["call_id"].as_str().unwrap())).await.json();
    let event = events["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&event["event_version"], &event["data"]["cached"]), (&json!(3), &json!(true)), "{event}");
    assert_eq!(event["data"]["source_call_id"], first["call_id"]);
    assert!(event["data"]["age_seconds"].as_u64().unwrap() < 60);
    // Who says nothing about freshness, or wants news, gets news.
    assert_eq!(outcome(&client, &request("GET", &url)).await["cached"], false);
    let mut news = request("GET", &url);
    news["options"] = json!({"freshness_seconds": 0});
    assert_eq!(outcome(&client, &news).await["cached"], false);
    assert_eq!(seen(), 3);
    assert_eq!(outcome(&app.admin(), &unhurried_about_news(&url)).await["cached"], false, "another tenant");
    assert_eq!(metric(&client, "tool_results_reused_total{tool=\"http.request\",kind=\"fresh\"}").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn neither_effects_nor_failures_are_kept() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let client = app.admin();
    let mut post = unhurried_about_news(&upstream.url("/order"));
    post["arguments"]["method"] = json!("POST");
    for times in 1..=2 {
        assert_eq!(outcome(&client, &post).await["cached"], false);
        assert_eq!(upstream.seen("POST /order"), times);
    }
    let flaky = unhurried_about_news(&upstream.url("/flaky/3"));
    assert_eq!(outcome(&client, &flaky).await["status"], "failed");
    assert_eq!(outcome(&client, &flaky).await["cached"], false);
}

#[tokio::test]
async fn those_who_ask_the_same_at_once_ask_once() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let client = app.admin();
    let body = unhurried_about_news(&upstream.url("/gate"));
    let calls = async { tokio::join!(outcome(&client, &body), outcome(&client, &body), outcome(&client, &body)) };
    let opened = async {
        wait_until("one of them asks, and all have begun", async || {
            upstream.seen("GET /gate") == 1 && app.stack.events_in_log_of("tool_call_requested").await == 3
        })
        .await;
        upstream.open_gate();
    };
    let ((one, two, three), ()) = tokio::join!(calls, opened);
    let calls = [one, two, three];
    assert!(calls.iter().all(|call| call["result"]["body"] == "through"), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call["cached"] == true).count(), 2);
    assert_eq!(upstream.seen("GET /gate"), 1);
}

#[tokio::test]
async fn those_who_ask_the_same_and_wait_for_a_place_ask_once() {
    let upstream = Upstream::start().await;
    // One place for each tenant with one upstream.
    let app = app(&[&upstream], |settings| settings.lane_concurrency = 4).await;
    let client = app.admin();
    let body = unhurried_about_news(&upstream.url("/gate"));
    let calls = async { tokio::join!(outcome(&client, &body), outcome(&client, &body), outcome(&client, &body)) };
    let opened = async {
        wait_until("one of them asks, and all have begun", async || {
            upstream.seen("GET /gate") == 1 && app.stack.events_in_log_of("tool_call_requested").await == 3
        })
        .await;
        upstream.open_gate();
    };
    let ((one, two, three), ()) = tokio::join!(calls, opened);
    let calls = [one, two, three];
    assert_eq!(calls.iter().filter(|call| call["cached"] == true).count(), 2, "{calls:?}");
    assert_eq!(upstream.seen("GET /gate"), 1);
}

#[tokio::test]
async fn when_the_upstream_is_down_an_older_result_is_given_and_says_so() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |settings| settings.circuit_open_ms = 600_000).await;
    let client = app.admin();
    let url = upstream.url("/rates");
    let first = outcome(&client, &request("GET", &url)).await;
    upstream.die();
    // The first two by what fails, the third by the breaker.
    for attempts in [3, 3, 1] {
        let call = outcome(&client, &request("GET", &url)).await;
        assert_eq!((&call["status"], &call["result"]), (&json!("succeeded"), &first["result"]), "{call}");
        assert_eq!((&call["cached"], &call["stale"]), (&json!(true), &json!(true)), "{call}");
        assert_eq!(call["attempts"], attempts, "{call}");
        let projected = client.get_projected(&call).await;
        assert_eq!((&projected["cached"], &projected["stale"]), (&json!(true), &json!(true)), "{projected}");
    }
    let mut news = request("GET", &url);
    news["options"] = json!({"freshness_seconds": 0});
    assert_eq!(outcome(&client, &news).await["status"], "failed", "who wants nothing but news");
    assert_eq!(outcome(&client, &request("GET", &upstream.url("/other"))).await["status"], "failed", "another question");
}

fn search(freshness_seconds: Option<u32>) -> Value {
    let options = freshness_seconds.map_or(json!({}), |seconds| json!({"freshness_seconds": seconds}));
    json!({"tool": "knowledge.search", "arguments": {"query": "durable"}, "options": options})
}

async fn knows(app: &TestApp) -> crate::app::Client {
    let client = app.admin();
    let document = json!({"document_id": "d", "title": "Log", "content": "A durable log."});
    client.result_of("knowledge.upsert", document).await;
    assert_eq!(outcome(&client, &search(Some(3_600))).await["cached"], false);
    assert_eq!(outcome(&client, &search(Some(3_600))).await["cached"], true);
    client
}

#[tokio::test]
async fn what_was_just_written_is_found_unless_older_will_do() {
    let app = TestApp::start().await;
    let client = knows(&app).await;
    client.result_of("knowledge.upsert", json!({"document_id": "e", "title": "Disk", "content": "A durable disk."})).await;
    let hits = |call: &Value| call["result"]["hits"].as_array().unwrap().len();
    assert_eq!(hits(&outcome(&client, &search(Some(3_600))).await), 1, "older will do");
    assert_eq!(hits(&outcome(&client, &search(None)).await), 2);
    let other = json!({"tool": "knowledge.search", "arguments": {"query": "durable"},
        "options": {"freshness_seconds": 3_600, "locale": "id"}});
    assert_eq!(outcome(&client, &other).await["cached"], false, "another language");
}

#[tokio::test]
async fn what_is_invalidated_is_asked_again() {
    let app = TestApp::start().await;
    let (one, two) = (knows(&app).await, knows(&app).await);
    let log = app.stack.log().await;
    let invalidated = Invalidated { tool: "knowledge.search".to_owned(), tenant_id: Some(one.tenant.id()) };
    log.announce_invalidated(&invalidated).await.unwrap();
    eventually("the worker hears it", async || (outcome(&one, &search(Some(3_600))).await["cached"] == false).then_some(()))
        .await;
    assert_eq!(outcome(&two, &search(Some(3_600))).await["cached"], true, "another tenant");
}

#[tokio::test]
async fn nothing_is_kept_across_a_connection_that_may_have_missed_something() {
    let (stack, mut services) = Stack::private(false).await;
    let app = TestApp::on(stack, |_| ()).await;
    let client = knows(&app).await;
    let nats = services.nats_mut().unwrap();
    nats.kill().await;
    nats.restart().await.unwrap();
    let answer = eventually("calls are accepted again", async || {
        let answer = client.call_and_wait(&super::key(), &search(Some(3_600))).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(answer["cached"], false, "{answer}");
}
