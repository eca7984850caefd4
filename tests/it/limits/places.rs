//! Requests worked on at the same time.

use tokio::task::JoinHandle;

use crate::app::{Answer, Child, Client, Role, Stack, Tenant, Token, send, task, wait_until};

fn admin(stack: &Stack, api: &Child) -> Client {
    let tenant = Tenant::new();
    Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()))
}

/// A request that waits for an outcome which nobody brings about.
fn hold(client: &Client, key: &str) -> JoinHandle<Answer> {
    let request = client.request(reqwest::Method::POST, "/v1/tool-calls").header("prefer", "wait=60");
    tokio::spawn(send(request.header("idempotency-key", key).json(&task())))
}

async fn accepted(stack: &Stack, calls: u64) {
    wait_until("the calls are accepted", async || stack.events_in_log().await == calls).await;
}

#[tokio::test]
async fn one_request_more_than_there_are_places_is_503_at_once() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::CommandApi, &[("TOOLGATE_MAX_CONCURRENT_REQUESTS", "4")]).await;
    let [one, two, three, four, five] = [(); 5].map(|()| admin(&stack, &api));
    let mut held = vec![hold(&one, "a"), hold(&two, "a"), hold(&three, "a")];
    accepted(&stack, 3).await;
    assert_eq!(five.call("k1", &task()).await.status, 202, "the last place");
    held.push(hold(&four, "a"));
    accepted(&stack, 5).await;
    let refused = five.call("k2", &task()).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(five.get(path).await.status, 200, "{path}");
    }
    held.pop().unwrap().abort();
    wait_until("who hangs up gives the place back", async || five.call("k2", &task()).await.status == 202).await;
    held.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn one_tenant_has_a_quarter_of_the_places() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::CommandApi, &[("TOOLGATE_MAX_CONCURRENT_REQUESTS", "12")]).await;
    let (one, two) = (admin(&stack, &api), admin(&stack, &api));
    let mut held = vec![hold(&one, "a"), hold(&one, "b")];
    accepted(&stack, 2).await;
    assert_eq!(one.call("k1", &task()).await.status, 202, "the third of three");
    held.push(hold(&one, "c"));
    accepted(&stack, 4).await;
    let refused = one.call("k2", &task()).await;
    refused.problem(429, "rate-limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_ne!(refused.header("ratelimit"), "");
    assert_eq!(two.call("k", &task()).await.status, 202, "another tenant finds room");
    held.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_stream_that_has_begun_holds_no_place() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::QueryApi, &[("TOOLGATE_MAX_CONCURRENT_REQUESTS", "1")]).await;
    let client = admin(&stack, &api);
    let mut streams = vec![client.events("", None).await, client.events("", None).await, client.events("", None).await];
    for stream in &mut streams {
        stream.frame().await.unwrap();
    }
    assert_eq!(client.get("/v1/tool-calls").await.status, 200);
}
