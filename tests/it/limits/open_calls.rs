//! Calls of one tenant that have no outcome.

use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use toolgate_store::User;

use crate::app::{Child, Client, Proxy, Role, Stack, Tenant, Token, eventually, send, task, task_titled, wait_until};

async fn command_api_for_three(stack: &Stack) -> Child {
    Child::start(stack, Role::CommandApi, &[("TOOLGATE_MAX_OPEN_CALLS", "3")]).await
}

fn admin(stack: &Stack, api: &Child) -> Client {
    let tenant = Tenant::new();
    Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()))
}

async fn fill(client: &Client) {
    for number in 1..=3 {
        let accepted = client.call(&format!("k{number}"), &task()).await;
        assert_eq!(accepted.status, 202, "call {number}: {}", accepted.text());
    }
    let refused = client.call("k4", &task()).await;
    refused.problem(429, "rate-limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_ne!(refused.header("ratelimit"), "");
}

#[tokio::test]
async fn a_tenant_with_too_many_open_calls_is_refused_until_some_have_finished() {
    let stack = Stack::new().await;
    let (api, _projector) = tokio::join!(command_api_for_three(&stack), Child::start(&stack, Role::Projector, &[]));
    let client = admin(&stack, &api);
    fill(&client).await;
    wait_until("the calls are projected", async || stack.count("select count(*) from tool_call").await == 3).await;
    client.call("k4", &task()).await.problem(429, "rate-limited");
    let again = client.call("k2", &task()).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"), "a call that is there is not refused");
    client.call("k2", &task_titled("Another")).await.problem(422, "idempotency-mismatch");
    let other = admin(&stack, &api);
    assert_eq!(other.call("k", &task()).await.status, 202, "another tenant is not affected");
    // One is called off: there is room for one.
    assert_eq!(client.post(&format!("/v1/tool-calls/{}/cancel", again.call_id())).await.status, 202);
    let accepted = eventually("there is room again", async || {
        let answer = client.call("k4", &task()).await;
        (answer.status == 202).then_some(answer)
    })
    .await;
    assert_eq!(accepted.header("idempotency-replayed"), "");
    client.call("k5", &task()).await.problem(429, "rate-limited");
    let metrics = send(client.anonymous(reqwest::Method::GET, "/metrics")).await.text();
    assert!(metrics.contains(r#"kind="rate_limited",tool="task.create""#), "{metrics}");
    let _worker = Child::start(&stack, Role::Worker, &[]).await;
    wait_until("all have finished and there is room", async || client.call("k5", &task()).await.status == 202).await;
}

#[tokio::test]
async fn what_is_not_projected_yet_counts_as_open() {
    let stack = Stack::new().await;
    let api = command_api_for_three(&stack).await;
    let client = admin(&stack, &api);
    fill(&client).await;
    assert_eq!(admin(&stack, &api).call("k", &task()).await.status, 202);
    assert_eq!(stack.call_events_in_log().await, 4);
}

#[tokio::test]
async fn a_replica_that_starts_hears_of_open_calls_with_the_first_that_is_projected() {
    let stack = Stack::new().await;
    let (api, projector) = tokio::join!(command_api_for_three(&stack), Child::start(&stack, Role::Projector, &[]));
    let client = admin(&stack, &api);
    fill(&client).await;
    wait_until("the calls are projected", async || stack.count("select count(*) from tool_call").await == 3).await;
    // Neither the replica nor the projector remembers anything.
    drop((api, projector));
    let (api, _projector) = tokio::join!(command_api_for_three(&stack), Child::start(&stack, Role::Projector, &[]));
    let client = client.at(api.url());
    assert_eq!(client.call("k4", &task()).await.status, 202, "it cannot know yet");
    wait_until("it has heard", async || client.call("k4", &task_titled("probe")).await.status != 202).await;
    let refused = eventually("it has heard", async || {
        let answer = client.call(&format!("k{}", toolgate_store::Clock::system().new_id()), &task()).await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    refused.problem(429, "rate-limited");
    assert!(stack.call_events_in_log().await <= 6, "no more than the cap on top of what was open");
}

/// An API for three open calls that hears of the log only what the proxy lets through, and a caller who has one call open.
async fn behind_a_proxy(stack: &Stack) -> (Child, Proxy, Client) {
    let proxy = Proxy::before(&stack.connections.nats_roles[&User::CommandApi]).await;
    let variables = [
        ("TOOLGATE_MAX_OPEN_CALLS", "3"),
        ("NATS_URL_COMMAND_API", proxy.url.expose_secret()),
        // The caller's own, and one more.
        ("TOOLGATE_MAX_CONNECTIONS", "2"),
    ];
    let api = Child::start(stack, Role::CommandApi, &variables).await;
    let client = admin(stack, &api);
    assert_eq!(client.call("k1", &task()).await.status, 202);
    (api, proxy, client)
}

#[tokio::test]
async fn a_caller_who_hangs_up_during_the_append_has_a_call_open_all_the_same() {
    let stack = Stack::new().await;
    let (api, proxy, client) = behind_a_proxy(&stack).await;
    proxy.withhold_answers();
    let address = api.url().replace("http://", "");
    let mut hanging = TcpStream::connect(&address).await.unwrap();
    let body = task().to_string();
    let head = format!(
        "POST /v1/tool-calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIdempotency-Key: k2\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        client.token,
        body.len(),
    );
    hanging.write_all((head + &body).as_bytes()).await.unwrap();
    wait_until("the call is in the log", async || stack.call_events_in_log().await == 2).await;
    drop(hanging);
    // There is a connection for this one as soon as the API has noticed.
    let mut next = TcpStream::connect(&address).await.unwrap();
    next.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    next.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    proxy.release_answers();
    assert_eq!(client.call("k3", &task()).await.status, 202);
    client.call("k4", &task()).await.problem(429, "rate-limited");
    assert_eq!(client.call("k2", &task()).await.header("idempotency-replayed"), "true");
    assert_eq!(stack.call_events_in_log().await, 3);
}

#[tokio::test]
async fn a_call_of_which_the_log_did_not_tell_counts_as_open() {
    let stack = Stack::new().await;
    let (_api, proxy, client) = behind_a_proxy(&stack).await;
    proxy.withhold_answers();
    client.call("k2", &task()).await.problem(503, "unavailable");
    assert_eq!(stack.call_events_in_log().await, 2);
    proxy.release_answers();
    // Until it hears from the log again, the API serves nobody.
    wait_until("the log answers again", async || client.call("k1", &task()).await.status == 202).await;
    assert_eq!(client.call("k3", &task()).await.status, 202);
    assert_eq!(client.call("k4", &task()).await.status, 202, "one that is let through after a silence");
    client.call("k5", &task()).await.problem(429, "rate-limited");
    assert_eq!(stack.call_events_in_log().await, 4);
}
