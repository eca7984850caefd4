//! No secret of the gateway is ever written down or sent out: every configured one, and the caller's token, are looked for in
//! everything that comes out of real processes, while an upstream that knows them all says them aloud.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::Connection;
use tokio::{net::TcpListener, process::Command};
use toolgate::services::DataDir;
use toolgate_security::SecretForms;
use toolgate_store::User;

use crate::app::{Child, Client, Role, Stack, TableOwner, Tenant, Token, eventually, free_port, leashed, send};

const CURSOR_SECRET: &str = "canary-cursor-secret-7f3a";
/// Credentials that nobody configured: they are known by what they look like.
const UPSTREAM_BEARER: &str = "canary0upstream1bearer2token3";
const UPSTREAM_JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOiJ1cHN0cmVhbSJ9.Y2FuYXJ5LXNpZ25hdHVyZQ";
const WEBHOOK_SECRET: &str = "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTJhOTE=";
const WRONG_PASSWORD: &str = "canary-wrong-password-51";

/// Everything that must not be found, under a name.
type Canaries = Vec<(String, SecretForms)>;

fn canaries(stack: &Stack, token: &str) -> Canaries {
    let connections = &stack.connections;
    let secrets = [
        ("NATS password", password(&connections.nats)),
        ("owner's password", password(&connections.owner)),
        ("reader's password", password(&connections.reader)),
        ("projector's password", password(&connections.projector)),
        ("cursor secret", CURSOR_SECRET.to_owned()),
        ("webhook secret", WEBHOOK_SECRET.strip_prefix("whsec_").unwrap().to_owned()),
        ("bearer token", token.to_owned()),
        ("signature of the bearer token", token.rsplit_once('.').unwrap().1.to_owned()),
        ("upstream's bearer token", UPSTREAM_BEARER.to_owned()),
        ("upstream's JWT", UPSTREAM_JWT.to_owned()),
        ("wrong password", WRONG_PASSWORD.to_owned()),
    ];
    let roles = connections.nats_roles.iter().map(|(user, url)| (format!("NATS password of {user:?}"), password(url)));
    let secrets = secrets.into_iter().map(|(name, secret)| (name.to_owned(), secret)).chain(roles);
    secrets.map(|(name, secret)| (name, SecretForms::of(&secret))).collect()
}

fn password(url: &SecretString) -> String {
    let url: reqwest::Url = url.expose_secret().parse().unwrap();
    url.password().unwrap().to_owned()
}

/// A server that knows every secret of the gateway, and says them whenever it is asked.
struct Upstream {
    port: u16,
    seen: Arc<Mutex<String>>,
}

#[derive(Clone)]
struct Knowledge {
    said: Arc<String>,
    seen: Arc<Mutex<String>>,
}

impl Upstream {
    async fn start(stack: &Stack) -> Self {
        let connections = &stack.connections;
        let urls = [&connections.nats, &connections.owner, &connections.reader, &connections.projector];
        let urls = urls.into_iter().chain(connections.nats_roles.values());
        let mut said: Vec<_> = urls.map(|url| url.expose_secret().to_owned()).collect();
        // Bare passwords are told from other text by whoever holds them, and a worker holds these.
        let passwords = [&connections.nats_roles[&User::Worker], &connections.reader].map(password);
        said.extend(passwords.iter().flat_map(|password| [password.clone(), STANDARD.encode(format!("user:{password}"))]));
        said.extend([CURSOR_SECRET.to_owned(), format!("Authorization: Bearer {UPSTREAM_BEARER}"), UPSTREAM_JWT.to_owned()]);
        let seen = Arc::new(Mutex::new(String::new()));
        let knowledge = Knowledge { said: Arc::new(said.join(" ")), seen: Arc::clone(&seen) };
        let router = Router::new().route("/{what}", any(answer)).with_state(knowledge);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, seen }
    }
}

async fn answer(State(own): State<Knowledge>, Path(what): Path<String>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    own.seen.lock().unwrap().push_str(&format!("{uri} {headers:?} {}\n", String::from_utf8_lossy(&body)));
    let said = own.said.as_str();
    match what.as_str() {
        "echo" => format!("you sent {headers:?}; I know {said}").into_response(),
        "headers" => ([("x-leak", said.to_owned()), ("set-cookie", format!("session={UPSTREAM_JWT}"))], "").into_response(),
        "json" => ([("content-type", "application/json")], json!({"k": said, said: 1}).to_string()).into_response(),
        "redirect" => {
            (http_status(302), [("location", format!("http://{WRONG_PASSWORD}@10.0.0.1/?{CURSOR_SECRET}"))]).into_response()
        }
        other => (http_status(500), format!("{other}: {said}")).into_response(),
    }
}

fn http_status(status: u16) -> axum::http::StatusCode {
    axum::http::StatusCode::from_u16(status).unwrap()
}

/// Everything that came out, under the name of the place where it did.
#[derive(Default)]
struct Haystack(Vec<(String, String)>);

impl Haystack {
    fn add(&mut self, place: &str, text: impl Into<String>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn text_of(&self, place: &str) -> String {
        self.0.iter().filter(|(other, _)| other == place).map(|(_, text)| text.as_str()).collect()
    }

    fn assert_holds_none_of(&self, canaries: &Canaries) {
        for (place, text) in &self.0 {
            for (name, forms) in canaries {
                let line = text.lines().find(|line| forms.are_in(line));
                assert!(line.is_none(), "{place} holds the {name}: {}", line.unwrap());
            }
        }
    }
}

#[tokio::test]
async fn no_secret_is_written_down_or_sent_out() {
    let stack = Stack::new().await;
    let upstream = Upstream::start(&stack).await;
    let tenant = Tenant::new();
    let token = Token::of(tenant, "admin").sign(stack.issuer());
    let canaries = canaries(&stack, &token);
    let logs = stack.data_dir.join(format!("canary-logs-{}", tenant.0));
    fs::create_dir(&logs).unwrap();

    // Nobody is there: what it is told is tried again and again.
    let webhook = format!("127.0.0.1:{}", free_port());
    let allowed = format!("127.0.0.1:{},{webhook}", upstream.port);
    let webhook = format!("http://{webhook}/");
    let variables = [
        ("RUST_LOG", "trace"),
        ("TOOLGATE_CURSOR_SECRET", CURSOR_SECRET),
        ("TOOLGATE_TASK_WEBHOOK_URL", webhook.as_str()),
        ("TOOLGATE_TASK_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ("TOOLGATE_TASK_WEBHOOK_FIRST_PAUSE_MS", "10"),
        ("TOOLGATE_EGRESS_ALLOW", allowed.as_str()),
        ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8"),
    ];
    let log = |name: &str| File::create(logs.join(name)).unwrap();
    let (mut commands, mut queries, mut worker, mut projector) = tokio::join!(
        Child::start_logging(&stack, Role::CommandApi, &variables, log("command-api")),
        Child::start_logging(&stack, Role::QueryApi, &variables, log("query-api")),
        Child::start_logging(&stack, Role::Worker, &variables, log("worker")),
        Child::start_logging(&stack, Role::Projector, &variables, log("projector")),
    );
    let client = Client::new(commands.url(), tenant, token.clone());
    let reader = client.at(queries.url());
    let mut haystack = Haystack::default();

    let calls = outcomes(&client, &upstream, &mut haystack).await;
    let task = json!({"tool": "task.create", "arguments": {"title": "T"}});
    reader.get_projected(&client.call_and_wait("task", &task).await.json()).await;
    eventually("the webhook was tried", async || {
        let metrics = send(client.at(worker.url()).anonymous(Method::GET, "/metrics")).await.text();
        metrics.contains("webhook_deliveries_total{outcome=\"retried\"}").then_some(())
    })
    .await;
    refusals(&client, &mut haystack).await;
    for call in &calls {
        reader.get_projected(call).await;
    }
    read_everything(&stack, &reader, &mut haystack).await;
    for child in [&commands, &queries, &worker, &projector] {
        haystack.add("metrics", send(client.at(child.url()).anonymous(Method::GET, "/metrics")).await.text());
    }
    for child in [&mut commands, &mut queries, &mut worker, &mut projector] {
        child.kill().await;
    }
    for name in ["command-api", "query-api", "worker", "projector"] {
        let text = fs::read_to_string(logs.join(name)).unwrap();
        assert!(text.contains("TRACE"), "{name} was to log everything");
        haystack.add("log", text);
    }
    services_that_cannot_be_reached(&stack, &mut haystack).await;
    fs::remove_dir_all(&logs).unwrap();

    // What was looked through is what was meant to be.
    let places = [
        ("answer", 6),
        ("problem", 6),
        ("log", 10_000),
        ("event", 1_000),
        ("row", 1_000),
        ("frame", 1_000),
        ("metrics", 1_000),
        ("failure", 100),
    ];
    for (place, least) in places {
        assert!(haystack.text_of(place).len() >= least, "{place}: {}", haystack.text_of(place).len());
    }
    for place in ["answer", "event", "row", "frame"] {
        assert!(haystack.text_of(place).contains("[redacted]"), "{place}");
    }
    haystack.assert_holds_none_of(&canaries);

    // The upstream heard what the caller said to it, and of the gateway nothing but the call's id.
    let seen = upstream.seen.lock().unwrap().clone();
    assert!(seen.contains("the-callers-own-key") && seen.contains("idempotency-key"), "{seen}");
    // A quotation mark begins a header's name; what stands in an identifier by chance is none.
    let names = ["authorization", "cookie", "traceparent", "x-request-id", "\"nats-", "\"ce-", "forwarded"];
    for header in names.into_iter().chain([tenant.0.to_string().as_str(), "tester"]) {
        assert!(!seen.to_lowercase().contains(header), "{header}: {seen}");
    }
    let mut outside = Haystack::default();
    outside.add("upstream", seen);
    outside.assert_holds_none_of(&canaries);
}

/// Calls that succeed and calls that fail, all of them on record afterwards.
async fn outcomes(client: &Client, upstream: &Upstream, haystack: &mut Haystack) -> Vec<Value> {
    let mut calls = Vec::new();
    for (what, status) in
        [("echo", "succeeded"), ("headers", "succeeded"), ("json", "succeeded"), ("error", "succeeded"), ("redirect", "failed")]
    {
        let arguments = json!({
            "method": "POST", "url": format!("http://127.0.0.1:{}/{what}", upstream.port), "body": "hello",
            "headers": {"x-api-key": "the-callers-own-key"},
        });
        let answer =
            client.call_and_wait(what, &json!({"tool": "http.request", "arguments": arguments, "session_id": "s"})).await;
        assert_eq!(answer.json()["status"], status, "{}", answer.text());
        haystack.add("answer", format!("{:?} {}", answer.headers, answer.text()));
        calls.push(answer.json());
    }
    calls
}

/// Requests that hold the token where it does not belong, and tokens that are refused.
async fn refusals(client: &Client, haystack: &mut Haystack) {
    let token = client.token.as_str();
    let bodies = [
        json!({"tool": "http.request", "arguments": {"method": "GET", "url": format!("http://127.0.0.1/?t={token}")}}),
        json!({"tool": "http.request", "arguments": {"method": "GET", "url": "http://127.0.0.1/", "headers": {token: "x"}}}),
        json!({"tool": "http.request", "arguments": {"method": "GET", "url": "http://127.0.0.1/", token: "x"}}),
        json!({"tool": "task.create", "arguments": {"title": STANDARD.encode(format!("x{token}"))}}),
        json!({"tool": "task.create", "arguments": {"title": "T"}, "session_id": token}),
        json!({"tool": "task.create", "arguments": {"title": "T"}, "options": {"locale": token}}),
        json!({"tool": "task.create", "arguments": {"title": "T"}, token: 1}),
    ];
    for body in &bodies {
        let answer = client.call("refused", body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        haystack.add("problem", answer.text());
    }
    let mut refused = client.clone();
    refused.token.push('x');
    let unknown = json!({"tool": token, "arguments": {}});
    for answer in [client.call("k", &unknown).await, client.call(token, &bodies[0]).await, refused.call("k", &bodies[0]).await] {
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        haystack.add("problem", format!("{:?} {}", answer.headers, answer.text()));
    }
    for path in [format!("/v1/tool-calls/{token}"), format!("/v1/events?after={token}")] {
        haystack.add("problem", client.get(&path).await.text());
    }
}

/// What the read side shows, and what lies behind it: every event of the log, every row of every table.
async fn read_everything(stack: &Stack, reader: &Client, haystack: &mut Haystack) {
    for row in reader.audit().await.into_iter().chain(reader.pages("/v1/audit?limit=500&content=open", "after").await) {
        haystack.add("row", format!("{row}\n"));
    }
    for path in ["/v1/tool-calls", "/v1/tasks", "/v1/documents", "/v1/audit/export", "/v1/tool-calls?cursor=x"] {
        haystack.add("answer", reader.get(path).await.text());
    }
    let count = stack.count("select count(*) from audit_event").await;
    for frame in reader.events("?after=0", None).await.events(usize::try_from(count).unwrap()).await {
        haystack.add("frame", format!("{frame:?}\n"));
    }
    let log = stack.log().await;
    for state in log.state().await.unwrap() {
        for sequence in 1..=state.last_sequence {
            let envelope = log.event_at(state.partition, sequence).await.unwrap().unwrap();
            haystack.add("event", serde_json::to_string(&envelope).unwrap());
            haystack.add("event", serde_json::to_string(&log.keys().open(envelope).await.unwrap()).unwrap());
        }
    }
    let mut connection = stack.connect(TableOwner::Superuser).await;
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    for table in tables {
        let rows: Vec<String> =
            sqlx::query_scalar(&format!("select to_json(t)::text from {table} t")).fetch_all(&mut connection).await.unwrap();
        haystack.add("row", rows.join("\n"));
    }
    connection.close().await.unwrap();
}

/// Processes that are given services they cannot use say so, without the passwords they tried.
async fn services_that_cannot_be_reached(stack: &Stack, haystack: &mut Haystack) {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let owner = stack.connections.owner.expose_secret();
    let nats = stack.connections.nats.expose_secret();
    let postgres = owner.rsplit_once('@').unwrap().1;
    let server = nats.rsplit_once('@').unwrap().1;
    let cases = [
        ("migrate", format!("postgres://toolgate_owner:{WRONG_PASSWORD}@{postgres}"), nats.to_owned()),
        ("migrate", format!("postgres://toolgate_owner:{WRONG_PASSWORD}@127.0.0.1:{closed}/x"), nats.to_owned()),
        ("migrate", format!("postgres://toolgate_owner:{WRONG_PASSWORD}@127.0.0.1:port/x"), nats.to_owned()),
        ("projector", format!("{WRONG_PASSWORD}://toolgate_owner:{WRONG_PASSWORD}@127.0.0.1/x"), nats.to_owned()),
        ("command-api", owner.to_owned(), format!("nats://toolgate:{WRONG_PASSWORD}@{server}")),
        ("command-api", owner.to_owned(), format!("nats://toolgate:{WRONG_PASSWORD}@127.0.0.1:{closed}")),
        ("command-api", owner.to_owned(), format!("nats://toolgate:{WRONG_PASSWORD}@127.0.0.1:port")),
        // A setting that names its value when it refuses it.
        ("worker", owner.to_owned(), nats.to_owned()),
    ];
    for (command, database, nats) in cases {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_toolgate"))
            .arg(command)
            .env("RUST_LOG", "trace")
            .env("TOOLGATE_DATA_DIR", PathBuf::from("/nonexistent"))
            .env("TOOLGATE_LISTEN", "127.0.0.1:0")
            .env("DATABASE_URL", &database)
            .env("NATS_URL", &nats)
            .env(
                "TOOLGATE_EGRESS_ALLOW",
                if command == "worker" { format!("https://u:{WRONG_PASSWORD}@host") } else { String::new() },
            )
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        assert!(!status.success(), "{command} was to fail on {database} and {nats}");
        haystack.add("failure", format!("{}{}\n", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)));
    }
}

#[tokio::test]
async fn starting_everything_logs_no_password() {
    let data = DataDir::temporary().unwrap();
    let (directory, log) = (data.path().join("up"), data.path().join("log"));
    let mut command = leashed(env!("CARGO_BIN_EXE_toolgate"));
    command.args(["up", "--no-demo", "--port", &free_port().to_string(), "--data-dir"]).arg(&directory);
    let mut up = command.env("RUST_LOG", "debug").stderr(File::create(&log).unwrap()).spawn().unwrap();
    let environment = eventually("it has prepared the database", async || fs::read_to_string(directory.join("env")).ok()).await;
    let logged = eventually("it reads", async || {
        let logged = fs::read_to_string(&log).unwrap();
        logged.contains("projection_checkpoint").then_some(logged)
    })
    .await;
    drop(up.stdin.take());
    up.wait().await.unwrap();
    let urls = environment.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| name.contains("_URL"));
    let urls = urls.filter_map(|(_, url)| url.trim_matches('\'').parse::<reqwest::Url>().ok());
    let passwords: Vec<_> = urls.filter_map(|url| Some(url.password()?.to_owned())).collect();
    assert!(passwords.len() >= 8, "{}", passwords.len());
    for password in passwords {
        assert!(!logged.contains(&password), "a password is in the log");
    }
}
