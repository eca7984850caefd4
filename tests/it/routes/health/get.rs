//! `GET /healthz` and `GET /readyz`

use reqwest::Method;

use crate::app::{Child, Client, Role, Stack, Tenant, TestApp, Token, send, task, wait_until};

#[tokio::test]
async fn a_whole_application_is_healthy_and_becomes_ready_without_a_token() {
    let app = TestApp::start().await;
    let client = app.admin();
    let get = async |path: &str| send(client.anonymous(Method::GET, path)).await;
    assert_eq!(get("/healthz").await.status, 200);
    wait_until("it is ready", async || get("/readyz").await.status == 200).await;
    let jwks = get("/.well-known/jwks.json").await.json();
    assert!(jwks["keys"][0].get("d").is_none() && jwks["keys"][0]["x"].is_string(), "{jwks}");
}

#[tokio::test]
async fn without_a_projector_it_is_not_ready_once_the_log_moves() {
    let stack = Stack::new().await;
    let (commands, queries, mut projector) = tokio::join!(
        Child::start(&stack, Role::CommandApi, &[]),
        Child::start(&stack, Role::QueryApi, &[]),
        Child::start(&stack, Role::Projector, &[]),
    );
    let tenant = Tenant::new();
    let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let reader = client.at(queries.url());
    wait_until("it is ready", async || reader.get("/readyz").await.status == 200).await;
    projector.kill().await;
    assert_eq!(client.call("k", &task()).await.status, 202);
    wait_until("the standstill is noticed", async || reader.get("/readyz").await.status == 503).await;
    let answer = reader.get("/readyz").await;
    assert!(answer.text().contains("stood still"), "{}", answer.text());
    // Nobody's health but the reading side's: commands are still taken.
    assert_eq!(client.get("/readyz").await.status, 200);
    assert_eq!(reader.get("/healthz").await.status, 200);

    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("it is ready again", async || reader.get("/readyz").await.status == 200).await;
}
