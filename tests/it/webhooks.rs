//! Outcomes of tasks, told to a receiver that checks the signatures.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use toolgate::settings::Settings;

use crate::app::{Child, Client, Role, Stack, Tenant, TestApp, Token, eventually, free_port, send, wait_until};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver, what it has been sent, and what it will say: 204 when it has nothing else to say.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    told: Arc<Mutex<Vec<Told>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

/// A status, and a header beside it.
type Answer = (u16, &'static str, String);

#[derive(Clone, Debug)]
pub struct Told {
    pub id: String,
    pub body: Value,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    pub async fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, told: Arc::default(), answers: Arc::default() };
        let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub fn answer(&self, status: u16) {
        self.answer_with(status, "x-nothing", String::new());
    }

    fn answer_with(&self, status: u16, header: &'static str, value: String) {
        self.answers.lock().unwrap().push_back((status, header, value));
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    async fn told_times(&self, times: usize) -> Vec<Told> {
        let told = eventually("the receiver is told", async || Some(self.told()).filter(|told| told.len() >= times)).await;
        assert_eq!(told.len(), times, "{told:?}");
        told
    }
}

async fn take(State(own): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap());
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body.as_ref()].concat();
    let tag = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    let now = toolgate_store::Clock::system().now().timestamp();
    if hmac::verify(&key, &signed, &tag).is_err() || (now - timestamp.parse::<i64>().unwrap()).abs() > 300 {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    own.told.lock().unwrap().push(Told { id, body: serde_json::from_slice(&body).unwrap() });
    match own.answers.lock().unwrap().pop_front() {
        Some((status, name, value)) => (StatusCode::from_u16(status).unwrap(), [(name, value)]).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn settings(port: u16) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.task_webhook_url = Some(format!("http://127.0.0.1:{port}/hook"));
        settings.task_webhook_secret = Some(SECRET.to_owned().into());
        settings.task_webhook_first_pause_ms = 10;
        settings.egress_allow = vec![format!("127.0.0.1:{port}")];
        settings.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
    }
}

async fn deliveries(app: &TestApp, outcome: &str) -> u64 {
    let metrics = send(app.admin().anonymous(Method::GET, "/metrics")).await.text();
    let sample = format!("webhook_deliveries_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn every_outcome_of_a_task_is_told_with_its_tenant() {
    let receiver = Receiver::start().await;
    let app = TestApp::start_with(settings(receiver.port)).await;
    let (client, other) = (app.admin(), app.admin());
    let arguments = json!({"title": "T", "assignee": "ada", "due": "2030-01-31T12:00:00Z", "labels": ["a"]});
    let task_id = client.result_of("task.create", arguments).await["task_id"].clone();
    let created = receiver.told_times(1).await.remove(0);
    assert_eq!(created.body["type"], "task.created");
    let row = client.audit().await.into_iter().find(|row| row["event_type"] == "tool_call_succeeded").unwrap();
    assert_eq!((&json!(created.id), &created.body["timestamp"]), (&row["event_id"], &row["occurred_at"]));
    let call_id = &row["aggregate_id"];
    let expected = json!({"tenant_id": client.tenant.0, "call_id": call_id, "task_id": task_id, "title": "T", "description": null,
        "assignee": "ada", "due": "2030-01-31T12:00:00.000000Z", "labels": ["a"], "status": "open", "version": 1});
    assert_eq!(created.body["data"], expected);

    client.result_of("task.update", json!({"task_id": task_id, "status": "done", "comment": "kept inside"})).await;
    let updated = receiver.told_times(2).await.remove(1);
    assert_eq!(updated.body["type"], "task.updated");
    for (member, value) in [("status", "done"), ("previous_status", "open"), ("title", "T")] {
        assert_eq!(updated.body["data"][member], value, "{updated:?}");
    }
    assert_eq!(updated.body["data"]["version"], 2);

    // What failed, what only reads, and other tools are not told.
    let again = json!({"tool": "task.update", "arguments": {"task_id": task_id, "status": "blocked"}});
    assert_eq!(client.call_and_wait("refused", &again).await.json()["status"], "failed");
    client.result_of("task.get", json!({"task_id": task_id})).await;
    client.result_of("knowledge.upsert", json!({"document_id": "d", "title": "T", "content": "C"})).await;
    other.result_of("task.create", json!({"title": "theirs"})).await;
    let theirs = receiver.told_times(3).await.remove(2);
    assert_eq!(theirs.body["data"]["tenant_id"], json!(other.tenant.0));
    wait_until("three are counted", async || deliveries(&app, "delivered").await == 3).await;
}

#[tokio::test]
async fn what_is_not_taken_comes_again_the_same_until_it_is() {
    let receiver = Receiver::start().await;
    receiver.answer(500);
    receiver.answer_with(302, "location", "http://169.254.169.254/".to_owned());
    receiver.answer(404);
    let app = TestApp::start_with(settings(receiver.port)).await;
    let client = app.admin();
    client.result_of("task.create", json!({"title": "T"})).await;
    let told = receiver.told_times(4).await;
    assert!(told.iter().all(|again| again.id == told[0].id && again.body == told[0].body), "{told:?}");
    wait_until("it is counted", async || deliveries(&app, "delivered").await == 1).await;
    assert_eq!(deliveries(&app, "retried").await, 3);
    assert_eq!(deliveries(&app, "given_up").await, 0);
    assert_eq!(app.stack.count("select count(*) from task").await, 1);
    // The redirect was not followed: it leads where nothing may go.
    assert_eq!(client.violations("egress_blocked").await, 1);
}

#[tokio::test]
async fn a_receiver_that_wants_none_of_it_is_left_alone_and_the_operator_finds_it() {
    let receiver = Receiver::start().await;
    receiver.answer(410);
    let app = TestApp::start_with(settings(receiver.port)).await;
    let client = app.admin();
    client.result_of("task.create", json!({"title": "unwanted"})).await;
    wait_until("it is given up", async || deliveries(&app, "given_up").await == 1).await;
    let parked = app.stack.log().await.parked().await.unwrap();
    assert_eq!(parked.len(), 1);
    assert!(parked[0].subject.contains(&client.tenant.0.to_string()), "{parked:?}");
    assert_eq!(parked[0].reason, "webhook given up at attempt 1: the receiver answered 410");
    // The next outcome is a message of its own.
    client.result_of("task.create", json!({"title": "wanted"})).await;
    let told = receiver.told_times(2).await;
    assert_eq!(told[1].body["data"]["title"], "wanted");
}

#[tokio::test]
async fn a_receiver_that_is_down_delays_no_call_and_gets_all_of_it_later() {
    let port = free_port();
    let app = TestApp::start_with(settings(port)).await;
    let client = app.admin();
    for number in 0..20 {
        client.result_of("task.create", json!({"title": format!("{number}")})).await;
    }
    wait_until("it was tried", async || deliveries(&app, "retried").await >= 20).await;
    assert_eq!(deliveries(&app, "delivered").await, 0);
    let receiver = Receiver::start_on(port).await;
    let told = receiver.told_times(20).await;
    let titles: std::collections::BTreeSet<_> = told.iter().map(|told| told.body["data"]["title"].to_string()).collect();
    assert_eq!(titles.len(), 20);
}

#[tokio::test]
async fn a_worker_that_dies_after_the_receiver_took_it_tells_it_again_under_the_same_id() {
    let stack = Stack::new().await;
    let receiver = Receiver::start().await;
    let (url, allowed) = (format!("http://127.0.0.1:{}/hook", receiver.port), format!("127.0.0.1:{}", receiver.port));
    let variables = [
        ("TOOLGATE_TASK_WEBHOOK_URL", url.as_str()),
        ("TOOLGATE_TASK_WEBHOOK_SECRET", SECRET),
        ("TOOLGATE_EGRESS_ALLOW", allowed.as_str()),
        ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8"),
        ("TOOLGATE_ACK_WAIT_MS", "1000"),
    ];
    let crashing: Vec<_> = variables.into_iter().chain([("TOOLGATE_CRASH_AT", "worker.delivered")]).collect();
    let (commands, mut dying) =
        tokio::join!(Child::start(&stack, Role::CommandApi, &[]), Child::start(&stack, Role::Worker, &crashing));
    let tenant = Tenant::new();
    let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let call = client.call("k", &json!({"tool": "task.create", "arguments": {"title": "T"}})).await;
    assert_eq!(call.status, 202, "{}", call.text());
    assert!(!dying.ended().await.success(), "it was to die");
    let _healthy = Child::start(&stack, Role::Worker, &variables).await;
    let told = receiver.told_times(2).await;
    assert_eq!((&told[0].id, &told[0].body), (&told[1].id, &told[1].body));
}

#[tokio::test]
async fn a_webhook_that_could_never_be_sent_stops_the_worker_with_a_sentence() {
    let stack = Stack::new().await;
    stack.log().await;
    for (url, allowed, rule) in [
        ("https://example.com/hook", "", "(rule: allow-list)"),
        ("https://example.com/hook", "other.example.com", "(rule: allow-list)"),
        ("http://10.0.0.1/hook", "10.0.0.1", "(rule: network)"),
        ("https://u:p@example.com/", "example.com", "(rule: userinfo)"),
        ("ftp://example.com/", "example.com", "(rule: scheme)"),
    ] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_toolgate"))
            .arg("worker")
            .env("TOOLGATE_DATA_DIR", &stack.data_dir)
            .env("TOOLGATE_PARTITIONS", crate::app::PARTITIONS.to_string())
            .env("NATS_URL", secrecy::ExposeSecret::expose_secret(&stack.connections.nats))
            .env("DATABASE_URL_READER", secrecy::ExposeSecret::expose_secret(&stack.connections.reader))
            .env("TOOLGATE_TASK_WEBHOOK_URL", url)
            .env("TOOLGATE_TASK_WEBHOOK_SECRET", SECRET)
            .env("TOOLGATE_EGRESS_ALLOW", allowed)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("`task_webhook_url` cannot be used") && said.contains(rule),
            "{url}: {said}"
        );
    }
}
