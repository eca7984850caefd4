//! Commands per tenant and minute, and per tool.

use reqwest::Method;
use serde_json::json;

use crate::app::{Answer, Stack, Tenant, TestApp, eventually, send, task, task_titled};

const SEARCH: &str = r#"{"tool":"knowledge.search","arguments":{"query":"x"}}"#;

/// `r` and `t` of one policy.
fn standing(answer: &Answer, policy: &str) -> (u64, u64) {
    let field = answer.header("ratelimit");
    let item = field.split(", ").find_map(|item| item.strip_prefix(&format!("\"{policy}\";r=")));
    let (remaining, reset) = item.and_then(|item| item.split_once(";t=")).unwrap_or_else(|| panic!("no {policy} in {field:?}"));
    (remaining.parse().unwrap(), reset.parse().unwrap())
}

fn assert_limited(answer: &Answer, policy: &str) {
    answer.problem(429, "rate-limited");
    let (remaining, reset) = standing(answer, policy);
    assert_eq!(remaining, 0);
    assert_eq!(answer.header("retry-after"), reset.to_string());
    assert!((1..=120).contains(&reset), "{reset}");
}

#[tokio::test]
async fn one_command_more_than_the_limit_is_429_and_hears_when_to_come_again() {
    let app = TestApp::start_with(|settings| settings.rate_limit_per_minute = 3).await;
    let (client, other) = (app.admin(), app.admin());
    for remaining in [2, 1, 0] {
        let accepted = client.call(&format!("k{remaining}"), &task()).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        assert_eq!(accepted.header("ratelimit-policy"), r#""tenant";q=3;w=60"#);
        let (left, reset) = standing(&accepted, "tenant");
        assert_eq!(left, remaining);
        assert!((1..=60).contains(&reset), "{reset}");
    }
    let refused = client.call("k", &task()).await;
    assert_limited(&refused, "tenant");
    assert_eq!(refused.header("ratelimit-policy"), r#""tenant";q=3;w=60"#);
    assert_limited(&client.post(&format!("/v1/tool-calls/{}/cancel", uuid::Uuid::nil())).await, "tenant");
    assert_eq!(other.call("k", &task()).await.status, 202, "another tenant has a limit of its own");
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    assert!(metrics.contains(r#"violations_total{kind="rate_limited",tool=""} 2"#), "{metrics}");
    assert_eq!(client.get("/v1/tools").await.status, 200, "reading is not counted");
}

#[tokio::test]
async fn every_answer_to_a_command_says_where_the_tenant_stands() {
    let app = TestApp::start().await;
    let client = app.admin();
    let viewer = app.client(client.tenant, "viewer");
    let post = |body: &str| client.request(Method::POST, "/v1/tool-calls").header("idempotency-key", "k").body(body.to_owned());
    let typed = |body: &str| post(body).header("content-type", "application/json");
    let done = client.call_and_wait("done", &task()).await;
    let cancel = format!("/v1/tool-calls/{}/cancel", done.call_id());
    let answers = [
        (200, done),
        (202, client.call("accepted", &task()).await),
        (400, send(typed("{")).await),
        (403, viewer.call("k", &task()).await),
        (404, send(typed(r#"{"tool":"no.tool","arguments":{}}"#)).await),
        (409, client.post(&cancel).await),
        (413, send(typed(&"x".repeat(256 * 1024 + 1))).await),
        (415, send(post("{}").header("content-type", "text/plain")).await),
        (422, client.call("done", &task_titled("Another")).await),
    ];
    for (status, answer) in answers {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("ratelimit-policy"), r#""tenant";q=600000;w=60"#, "{status}");
        standing(&answer, "tenant");
    }
    let anonymous = send(client.anonymous(Method::POST, "/v1/tool-calls").json(&task())).await;
    assert_eq!((anonymous.status, anonymous.header("ratelimit")), (401, ""), "a stranger hears nothing");
}

#[tokio::test]
async fn a_tool_has_a_limit_of_its_own_on_top() {
    let app = TestApp::start_with(|settings| {
        settings.tool_rate_limits.insert("task.create".to_owned(), 2);
    })
    .await;
    let client = app.admin();
    // Whoever may not call the tool uses up nothing of it.
    app.client(client.tenant, "viewer").call("k", &task()).await.problem(403, "forbidden");
    for remaining in [1, 0] {
        let accepted = client.call(&format!("k{remaining}"), &task()).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        assert_eq!(accepted.header("ratelimit-policy"), r#""tenant";q=600000;w=60, "tool";q=2;w=60"#);
        assert_eq!(standing(&accepted, "tool").0, remaining);
    }
    let refused = client.call("k", &task()).await;
    assert_limited(&refused, "tool");
    assert!(standing(&refused, "tenant").0 > 0);
    let search = client.request(Method::POST, "/v1/tool-calls").header("content-type", "application/json").body(SEARCH);
    let searched = send(search).await;
    assert_eq!((searched.status, searched.header("ratelimit-policy")), (202, r#""tenant";q=600000;w=60"#));
    assert_eq!(app.admin().call("k", &task()).await.status, 202, "another tenant");
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    assert!(metrics.contains(r#"violations_total{kind="rate_limited",tool="task.create"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_refused_command_leaves_one_event_that_says_so_and_nothing_else() {
    let app = TestApp::start_with(|settings| settings.rate_limit_per_minute = 1).await;
    let client = app.client(Tenant::new(), "admin");
    client.post("/v1/tool-calls").await.problem(415, "unsupported-media-type");
    for number in 0..5 {
        assert_limited(&client.call(&format!("k{number}"), &task()).await, "tenant");
    }
    let row = eventually("the refusal is on record", async || client.audit().await.into_iter().next()).await;
    let said = json!({"policy": "tenant", "limit": 1, "window_seconds": 60, "principal": "tester", "refused": 1});
    assert_eq!((row["event_type"].as_str(), &row["data"]), (Some("rate_limit_exceeded"), &said));
    assert_eq!(app.stack.call_events_in_log().await, 0);
    assert_eq!(app.stack.count("select count(*) from tool_call").await, 0);
}

#[tokio::test]
async fn while_nats_is_away_nothing_can_be_counted_and_nothing_is_accepted() {
    let (stack, mut services) = Stack::private(false).await;
    let app = TestApp::on(stack, |settings| settings.rate_limit_per_minute = 64).await;
    let client = app.admin();
    assert_eq!(client.call_and_wait("before", &task()).await.status, 200);
    services.nats_mut().unwrap().kill().await;
    let refused = client.call("during", &json!({"tool": "task.create", "arguments": {"title": "T"}})).await;
    refused.problem(503, "unavailable");
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(refused.header("ratelimit-policy"), r#""tenant";q=64;w=60"#);
    services.nats_mut().unwrap().restart().await.unwrap();
    crate::app::wait_until("commands are accepted again", async || {
        client.call_and_wait("during", &json!({"tool": "task.create", "arguments": {"title": "T"}})).await.status == 200
    })
    .await;
    drop(app);
}
