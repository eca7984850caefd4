//! `POST /v1/webhooks/basehub`

use aws_lc_rs::hmac;
use futures::StreamExt;
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret;
use toolgate_store::{Invalidated, User};

use crate::app::{Child, Client, Proxy, Role, Stack, Tenant, TestApp, Token, send};

const SECRET: &str = "canary-webhook-secret";

async fn app() -> TestApp {
    TestApp::start_with(|settings| {
        settings.basehub_webhook_secret = Some(format!("bshb_workflow_1:{SECRET}").into());
        settings.body_limit_bytes = 4_096;
    })
    .await
}

pub fn signature(body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn post(client: &Client, body: impl Into<Vec<u8>>) -> RequestBuilder {
    let request = client.anonymous(Method::POST, "/v1/webhooks/basehub").header("content-type", "application/json");
    request.body(body.into())
}

fn signed(client: &Client, body: &str) -> RequestBuilder {
    post(client, body).header("x-basehub-webhook-signature", signature(body.as_bytes()))
}

#[tokio::test]
async fn a_signed_message_is_told_to_every_worker() {
    let app = app().await;
    let client = app.admin();
    let log = app.stack.log().await;
    let (one, other) = (log.invalidated().await.unwrap(), log.invalidated().await.unwrap());
    let answer = send(signed(&client, r#"{"event": "commit"}"#)).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{}", answer.text());
    for mut worker in [std::pin::pin!(one), std::pin::pin!(other)] {
        assert_eq!(worker.next().await.unwrap(), Some(Invalidated { tool: "basehub.query".to_owned(), tenant_id: None }));
    }
}

#[tokio::test]
async fn what_the_broker_does_not_confirm_is_503() {
    let stack = Stack::new().await;
    let proxy = Proxy::before(&stack.connections.nats_roles[&User::CommandApi]).await;
    let secret = format!("bshb_workflow_1:{SECRET}");
    let variables = [("TOOLGATE_BASEHUB_WEBHOOK_SECRET", secret.as_str()), ("NATS_URL_COMMAND_API", proxy.url.expose_secret())];
    let api = Child::start(&stack, Role::CommandApi, &variables).await;
    let tenant = Tenant::new();
    let client = Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    assert_eq!(send(signed(&client, "{}")).await.status, 204);
    proxy.withhold_answers();
    send(signed(&client, "{}")).await.problem(503, "unavailable");
    proxy.release_answers();
}

#[tokio::test]
async fn a_message_that_is_not_signed_is_401_whoever_sends_it() {
    let app = app().await;
    let client = app.admin();
    let body = r#"{"event": "commit"}"#;
    let good = signature(body.as_bytes());
    let header = "x-basehub-webhook-signature";
    let refused = [
        post(&client, body),
        post(&client, body).bearer_auth(&client.token),
        post(&client, body).header(header, signature(b"another")),
        post(&client, body).header(header, &good[1..]),
        post(&client, body).header(header, format!("{good}00")),
        post(&client, body).header(header, format!("sha256={good}")),
        post(&client, format!("{body} ")).header(header, &good),
        post(&client, body).header(header, &good).header(header, &good),
        post(&client, "").header(header, &good),
    ];
    let count = u64::try_from(refused.len()).unwrap();
    for request in refused {
        let answer = send(request).await;
        answer.problem(401, "invalid-signature");
        assert!(answer.headers.contains_key("www-authenticate") && !answer.text().contains(SECRET));
    }
    assert_eq!(client.violations("unauthenticated").await, count);
    assert_eq!(send(post(&client, body).header(header, good.to_uppercase())).await.status, 204);
}

#[tokio::test]
async fn a_message_is_bounded_json() {
    let app = app().await;
    let client = app.admin();
    for (length, status) in [(4_095, 204), (4_096, 204), (4_097, 413)] {
        let body = format!("\"{}\"", "x".repeat(length - 2));
        assert_eq!(send(signed(&client, &body)).await.status, status, "{length}");
    }
    let text = client.anonymous(Method::POST, "/v1/webhooks/basehub").header("content-type", "text/plain").body("{}");
    send(text.header("x-basehub-webhook-signature", signature(b"{}"))).await.problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn without_a_secret_nothing_is_there() {
    let app = TestApp::start().await;
    send(signed(&app.admin(), "{}")).await.problem(404, "not-found");
}
