//! Tokens and tenants that an operator shuts out.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};
use toolgate_store::Clock;

use crate::app::{Client, Stack, Tenant, TestApp, Token, task, wait_until};

/// What is promised for every replica.
const PROMISE: Duration = Duration::from_secs(5);

/// Runs the command line as an operator does.
async fn toolgate(stack: &Stack, arguments: &[&str], input: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command.args(arguments).env("NATS_URL", stack.connections.nats.expose_secret());
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = process.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// Waits until every replica answers with `status`, and says how long that took.
async fn until_all_answer(clients: &[&Client], status: u16) -> Duration {
    let began = Instant::now();
    for client in clients {
        wait_until("the replica follows", async || client.get("/v1/tools").await.status == status).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_revoked_token_is_refused_on_every_replica_in_time() {
    let app = TestApp::start().await;
    let other = app.another_instance().await;
    let tenant = Tenant::new();
    let (client, neighbour) = (app.client(tenant, "admin"), app.client(tenant, "admin"));
    let there = client.at(format!("http://{}", other.address));
    let by_id = app.client_with(tenant, &Token::of(tenant, "admin").claim("jti", json!("..>*\u{e9} $")));
    for client in [&client, &there, &neighbour, &by_id] {
        assert_eq!(client.get("/v1/tools").await.status, 200);
    }
    let mut stream = client.events("", None).await;
    stream.frame().await.unwrap();

    toolgate(&app.stack, &["token", "revoke", "--token-file", "-"], &format!("{}\n", client.token)).await;
    let took = until_all_answer(&[&client, &there], 401).await;
    assert!(took < PROMISE, "{took:?}");
    client.get("/v1/tools").await.problem(401, "invalid-token");
    let farewell = stream.event().await.unwrap();
    assert_eq!(farewell.name(), "unauthorized");
    assert_eq!(farewell.json(), json!({"detail": "the token has been revoked"}));
    assert!(stream.frame().await.is_none(), "the stream goes on");
    assert_eq!(neighbour.get("/v1/tools").await.status, 200, "another token of the same principal");

    toolgate(&app.stack, &["token", "revoke", "--jti", "..>*\u{e9} $"], "").await;
    assert!(until_all_answer(&[&by_id], 401).await < PROMISE);
    // A replica that starts afterwards has it from the beginning.
    let late = app.another_instance().await;
    client.at(format!("http://{}", late.address)).get("/v1/tools").await.problem(401, "invalid-token");
    for instance in [other, late] {
        instance.stop().await;
    }
}

#[tokio::test]
async fn an_export_under_way_is_cut_off_with_its_token() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    app.stack.insert_large_events(tenant, 200, 256 * 1024).await;
    let (client, neighbour) = (app.client(tenant, "admin"), app.client(tenant, "admin"));
    let export = async |client: &Client| {
        let response = client.request(reqwest::Method::GET, "/v1/audit/export").send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    };
    // Begun and not read: far more is left than fits into the buffers between.
    let (cut, whole) = (export(&client).await, export(&neighbour).await);
    toolgate(&app.stack, &["token", "revoke", "--token-file", "-"], &client.token).await;
    until_all_answer(&[&client], 401).await;
    let cut = cut.bytes().await;
    assert!(cut.is_err(), "{:?} bytes look like the whole", cut.map(|bytes| bytes.len()));
    let whole = whole.text().await.unwrap();
    assert_eq!(whole.lines().count(), 200, "another token of the same principal");
}

#[tokio::test]
async fn an_export_under_way_is_cut_off_when_its_token_ends() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    app.stack.insert_large_events(tenant, 200, 256 * 1024).await;
    // Three seconds before the end of the leeway.
    let ending = app.client_with(tenant, &Token::of(tenant, "admin").expires_in(-27));
    let response = ending.request(reqwest::Method::GET, "/v1/audit/export").send().await.unwrap();
    assert_eq!(response.status(), 200);
    until_all_answer(&[&ending], 401).await;
    let cut = response.bytes().await;
    assert!(cut.is_err(), "{:?} bytes look like the whole", cut.map(|bytes| bytes.len()));
}

#[tokio::test]
async fn an_epoch_refuses_a_tenants_tokens_and_lets_new_ones_in() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    let (client, stranger) = (app.client(tenant, "admin"), app.admin());
    // Without a jti there is no other way.
    let nameless = app.client_with(tenant, &Token::of(tenant, "admin").claim("jti", serde_json::Value::Null));
    assert_eq!(client.get("/v1/tools").await.status, 200);
    let mut stream = client.events("", None).await;
    stream.frame().await.unwrap();

    toolgate(&app.stack, &["tenant", "revoke-tokens", "--tenant", &tenant.0.to_string()], "").await;
    assert!(until_all_answer(&[&client, &nameless], 401).await < PROMISE);
    assert_eq!(stream.event().await.unwrap().name(), "unauthorized");
    wait_until("tokens of the next second are accepted", async || {
        app.client(tenant, "admin").get("/v1/tools").await.status == 200
    })
    .await;
    client.get("/v1/tools").await.problem(401, "invalid-token");
    assert_eq!(stranger.get("/v1/tools").await.status, 200);
}

#[tokio::test]
async fn a_suspended_tenant_is_shut_out_until_it_is_resumed() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    let (client, stranger) = (app.client(tenant, "admin"), app.admin());
    assert_eq!(client.get("/v1/tools").await.status, 200);
    let mut stream = client.events("", None).await;
    stream.frame().await.unwrap();

    let id = tenant.0.to_string();
    toolgate(&app.stack, &["tenant", "suspend", "--tenant", &id], "").await;
    assert!(until_all_answer(&[&client], 403).await < PROMISE);
    let problem = client.call("k", &task()).await.problem(403, "forbidden");
    assert_eq!(problem["detail"], "the tenant is suspended");
    let farewell = stream.event().await.unwrap();
    assert_eq!((farewell.name(), farewell.json()), ("unauthorized", json!({"detail": "the tenant is suspended"})));
    // What is no token stays 401, whatever tenant it names.
    app.client_with(tenant, &Token::of(tenant, "admin").expires_in(-60)).get("/v1/tools").await.problem(401, "invalid-token");
    assert_eq!(stranger.get("/v1/tools").await.status, 200);
    assert_eq!(app.stack.events_in_log().await, 0);

    // The epoch is a matter of its own: it stays when the tenant is let in again.
    toolgate(&app.stack, &["tenant", "revoke-tokens", "--tenant", &id], "").await;
    toolgate(&app.stack, &["tenant", "resume", "--tenant", &id], "").await;
    assert!(until_all_answer(&[&client], 401).await < PROMISE);
    wait_until("new tokens are accepted", async || app.client(tenant, "admin").get("/v1/tools").await.status == 200).await;
}

#[tokio::test]
async fn whoever_cannot_check_revocations_lets_nobody_in() {
    let (stack, mut services) = Stack::private(false).await;
    let app = TestApp::on(stack, |_| ()).await;
    let client = app.admin();
    assert_eq!(client.get("/v1/tools").await.status, 200);
    let mut stream = client.events("", None).await;
    stream.frame().await.unwrap();
    services.nats_mut().unwrap().kill().await;
    let began = Clock::system().now();
    wait_until("old knowledge is not trusted", async || client.get("/v1/tools").await.status == 503).await;
    let closed_after = Clock::system().now() - began;
    assert!(closed_after < chrono::Duration::seconds(7), "{closed_after}");
    let refused = client.get("/v1/tools").await;
    let problem = refused.problem(503, "unavailable");
    assert_eq!(problem["detail"], "revocations cannot be checked at the moment");
    assert_ne!(refused.header("retry-after"), "");
    assert!(stream.event().await.is_none(), "the stream ends without a word against the token");

    services.nats_mut().unwrap().restart().await.unwrap();
    wait_until("it is known again", async || client.get("/v1/tools").await.status == 200).await;
    drop(app);
}
