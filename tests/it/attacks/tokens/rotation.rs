//! Keys that come and go while the service runs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, http::StatusCode, routing::get};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    app_trusting,
    keyring::{Keyring, Signer, claims},
};
use crate::app::{Answer, Client, Sse, Stack, Tenant, TestApp, send, wait_until};

/// An issuer's server: what it answers can be changed, and its requests are counted.
struct JwksServer {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    fetches: Arc<AtomicUsize>,
}

impl JwksServer {
    async fn start(status: StatusCode, jwks: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((status, jwks.to_string())));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (answers, counted) = (Arc::clone(&answer), Arc::clone(&fetches));
        let handler = async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            answers.lock().unwrap().clone()
        };
        tokio::spawn(axum::serve(listener, Router::new().route("/jwks.json", get(handler))).into_future());
        Self { url, answer, fetches }
    }

    fn answer(&self, status: StatusCode, jwks: &Value) {
        *self.answer.lock().unwrap() = (status, jwks.to_string());
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    async fn app(&self, refresh_seconds: u64) -> (TestApp, Client) {
        let app = TestApp::on(Stack::new().await, |settings| {
            settings.jwks_url = Some(self.url.clone());
            settings.jwks_refresh_seconds = refresh_seconds;
        })
        .await;
        let client = Client::new(app.url(), Tenant::new(), String::new());
        (app, client)
    }
}

async fn ask(client: &Client, token: &str) -> Answer {
    send(client.anonymous(Method::GET, "/v1/tools").bearer_auth(token)).await
}

fn token(keyring: &Keyring, kid: &str) -> String {
    keyring.sign_text(Signer::Ed, &json!({"alg": "EdDSA", "kid": kid}).to_string(), &claims().to_string())
}

fn key(keyring: &Keyring, kid: &str) -> Value {
    keyring.jwk(Signer::Ed, kid, "EdDSA")
}

async fn refreshes(client: &Client, outcome: &str) -> u64 {
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    let sample = format!("jwks_refreshes_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)).map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_file_is_followed_without_a_restart() {
    let (old, new) = (Keyring::generate(), Keyring::generate());
    let (_app, client, path) = app_trusting(&json!({"keys": [key(&old, "old")]})).await;
    let (by_old, by_new) = (token(&old, "old"), token(&new, "new"));
    assert_eq!(ask(&client, &by_old).await.status, 200);
    ask(&client, &by_new).await.problem(401, "invalid-token");

    std::fs::write(&path, json!({"keys": [key(&old, "old"), key(&new, "new")]}).to_string()).unwrap();
    wait_until("the new key is known", async || ask(&client, &by_new).await.status == 200).await;
    assert_eq!(ask(&client, &by_old).await.status, 200);

    std::fs::write(&path, "{\"keys\": [").unwrap();
    wait_until("the broken file is noticed", async || refreshes(&client, "failed").await > 0).await;
    for token in [&by_old, &by_new] {
        assert_eq!(ask(&client, token).await.status, 200, "the last good keys are kept");
    }

    // The old token has been verified before, and is remembered, and a stream is open under it.
    let opened = client.anonymous(Method::GET, "/v1/events").bearer_auth(&by_old).send().await.unwrap();
    let mut stream = Sse::new(opened);
    stream.frame().await.unwrap();
    std::fs::write(&path, json!({"keys": [key(&new, "new")]}).to_string()).unwrap();
    wait_until("the old key is gone", async || ask(&client, &by_old).await.status == 401).await;
    assert_eq!(ask(&client, &by_new).await.status, 200);
    assert_eq!(stream.event().await.unwrap().name(), "unauthorized");
}

#[tokio::test]
async fn an_unknown_key_makes_one_fetch_however_many_name_it() {
    let (old, new) = (Keyring::generate(), Keyring::generate());
    let server = JwksServer::start(StatusCode::OK, &json!({"keys": [key(&old, "old")]})).await;
    let (_app, client) = server.app(86_400).await;
    assert_eq!(ask(&client, &token(&old, "old")).await.status, 200);
    assert_eq!(server.fetches(), 1);

    // The issuer has rotated: the first token by its new key is accepted at once.
    server.answer(StatusCode::OK, &json!({"keys": [key(&old, "old"), key(&new, "new")]}));
    let by_new = token(&new, "new");
    let answers = futures::future::join_all((0..20).map(|_| ask(&client, &by_new))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(server.fetches(), 2);
    let began = std::time::Instant::now();
    let flood = futures::future::join_all((0..100).map(|number| {
        let (client, token) = (client.clone(), token(&new, &format!("unknown-{number}")));
        async move { ask(&client, &token).await.status }
    }));
    assert_eq!(flood.await, vec![401; 100]);
    // Nothing within ten seconds of the last; on a machine that slow, one for each ten.
    let allowed = 2 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    assert!(server.fetches() <= allowed, "{} fetches", server.fetches());
}

#[tokio::test]
async fn an_address_is_followed_and_its_outage_hurts_nobody() {
    let (old, new) = (Keyring::generate(), Keyring::generate());
    let server = JwksServer::start(StatusCode::OK, &json!({"keys": [key(&old, "old")]})).await;
    let (_app, client) = server.app(1).await;
    let (by_old, by_new) = (token(&old, "old"), token(&new, "new"));
    assert_eq!(ask(&client, &by_old).await.status, 200);
    server.answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"keys": [key(&new, "new")]}));
    wait_until("the outage is noticed", async || refreshes(&client, "failed").await > 0).await;
    assert_eq!(ask(&client, &by_old).await.status, 200, "the last good keys are kept");
    ask(&client, &by_new).await.problem(401, "invalid-token");

    server.answer(StatusCode::OK, &json!({"keys": [key(&new, "new")]}));
    wait_until("the old key is gone", async || ask(&client, &by_old).await.status == 401).await;
    assert_eq!(ask(&client, &by_new).await.status, 200);
}

#[tokio::test]
async fn without_keys_it_is_not_ready_and_503_until_they_come() {
    let keyring = Keyring::generate();
    let server = JwksServer::start(StatusCode::BAD_GATEWAY, &json!({})).await;
    let (_app, client) = server.app(300).await;
    let token = token(&keyring, "k");
    let refused = ask(&client, &token).await;
    refused.problem(503, "unavailable");
    assert_ne!(refused.header("retry-after"), "");
    let ready = async || send(client.anonymous(Method::GET, "/readyz")).await;
    assert!(ready().await.text().contains("keys"), "{:?}", ready().await);
    assert_eq!(send(client.anonymous(Method::GET, "/healthz")).await.status, 200);

    server.answer(StatusCode::OK, &json!({"keys": [key(&keyring, "k")]}));
    wait_until("the keys have come", async || ask(&client, &token).await.status == 200).await;
    wait_until("it is ready", async || ready().await.status == 200).await;
}
