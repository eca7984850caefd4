//! `toolgate knowledge load`

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::Output,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command};
use toolgate::loader::{self, Options, Summary};
use toolgate_store::Clock;

use crate::app::{Client, TestApp, Token, wait_until_count};

/// Files of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("toolgate-load-{}", Clock::system().new_id()));
        fs::create_dir_all(folder.join("in")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::create_dir_all(self.0.join(name).parent().unwrap()).unwrap();
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn load(app: &TestApp, client: &Client, arguments: &[&str]) -> Output {
    let token = Token::of(client.tenant, "agent").sign(app.stack.issuer());
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command.args(["knowledge", "load", "--url", &app.url(), "--token", &token]).args(arguments).kill_on_drop(true);
    command.output().await.unwrap()
}

/// The exit code, and what was said.
async fn said(app: &TestApp, client: &Client, arguments: &[&str]) -> (Option<i32>, String) {
    let output = load(app, client, arguments).await;
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn document(client: &Client, id: &str) -> Value {
    client.result_of("knowledge.get", json!({"document_id": id})).await
}

fn upserts(events: &[Value]) -> usize {
    events
        .iter()
        .filter(|event| event["event_type"] == "tool_call_requested" && event["data"]["tool"] == "knowledge.upsert")
        .count()
}

#[tokio::test]
async fn markdown_says_itself_what_it_is_called_and_in_which_language() {
    let app = TestApp::start().await;
    let client = app.admin();
    let files = Folder::new();
    let plain = files.write("in/a/plain.md", "Intro\n\n# Refunds\n\nWe refund.");
    let yaml = files.write(
        "in/yaml.md",
        "---\ntitle: Pengembalian\nlocale: id\nsource: https://example.com/x\ntags: [a, b]\n---\nPembayaran dikembalikan.",
    );
    let toml = files.write("in/toml.md", "+++\ntitle = \"T\"\nteam = 3\n+++\nText.");
    files.write("in/picture.png", [0, 159]);
    files.write("outside.md", "# Outside");
    symlink(files.path("outside.md"), files.path("in/link.md")).unwrap();
    symlink(&files.0, files.path("in/loop")).unwrap();
    let (code, text) = said(&app, &client, &[&files.path("in"), "--locale", "de"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("3 documents written, 0 unchanged, 0 failed; "), "{text}");

    let plain = document(&client, &plain).await;
    assert_eq!((plain["title"].as_str(), plain["locale"].as_str()), (Some("Refunds"), Some("de")));
    let yaml = document(&client, &yaml).await;
    assert_eq!(yaml["metadata"], json!({"tags": ["a", "b"]}));
    assert_eq!(yaml["content"], "Pembayaran dikembalikan.");
    let hits = client.result_of("knowledge.search", json!({"query": "bayar"})).await["hits"].clone();
    assert_eq!((hits[0]["title"].as_str(), hits[0]["source"].as_str()), (Some("Pengembalian"), Some("https://example.com/x")));
    assert_eq!(document(&client, &toml).await["metadata"], json!({"team": 3}));
    assert_eq!(app.stack.count("select count(*) from knowledge_document").await, 3, "a link was followed");
}

#[tokio::test]
async fn a_bad_line_is_named_and_does_not_stop_the_rest() {
    let app = TestApp::start().await;
    let client = app.admin();
    let files = Folder::new();
    let lines = files.write(
        "docs.ndjson",
        concat!(
            r#"{"document_id": "a", "title": "A", "content": "first", "metadata": {"kind": "faq"}}"#,
            "\n\n{broken\n",
            r#"{"document_id": "b", "title": "B", "content": "second", "unknown": 1}"#,
            "\n",
            r#"{"document_id": "c", "title": "C", "content": ""}"#,
            "\n",
            r#"{"document_id": "a", "title": "A", "content": "another"}"#,
            "\n",
            r#"{"document_id": "d", "title": "D", "content": "last", "locale": "en"}"#,
        ),
    );
    let large = files.write("large.md", "word ".repeat(60_000));
    let empty = files.write("empty.md", "---\ntitle: x\n---\n\n");
    let (code, text) = said(&app, &client, &[&lines, &large, &empty]).await;
    assert_eq!(code, Some(1), "{text}");
    for named in [
        format!("{lines}:3: key must be a string"),
        format!("{lines}:4: unknown field `unknown`"),
        format!("{lines}:5: "),
        format!("{lines}:6: the document of this name is in {lines}:1 already"),
        format!("{large}: is larger than the server takes"),
        format!("{empty}: has no text"),
        "2 documents written, 0 unchanged, 6 failed".to_owned(),
    ] {
        assert!(text.contains(&named), "{named:?} is not in:\n{text}");
    }
    assert_eq!(document(&client, "a").await["content"], "first");
    assert_eq!(document(&client, "d").await["content"], "last");
    for wrong in [files.path("nothing"), files.write("picture.png", "x")] {
        assert_eq!(said(&app, &client, &[&wrong]).await.0, Some(1), "{wrong}");
    }
}

#[tokio::test]
async fn loading_again_repeats_nothing_and_a_text_that_comes_back_is_written_again() {
    let app = TestApp::start().await;
    let client = app.admin();
    let files = Folder::new();
    let file = files.write("in/d.md", "# One");
    files.write("in/e.md", "# Same");
    let folder = files.path("in");
    let expect = async |written: u32, unchanged: u32| {
        let (code, text) = said(&app, &client, &[&folder]).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(&format!("{written} documents written, {unchanged} unchanged, 0 failed")), "{text}");
    };
    expect(2, 0).await;
    expect(0, 2).await;
    assert_eq!(upserts(&client.audit().await), 2);
    for text in ["# Two", "# One", "# Two", "# One"] {
        files.write("in/d.md", text);
        expect(1, 1).await;
        expect(0, 2).await;
        assert_eq!(document(&client, &file).await["content"], text);
    }
    // Somebody else's text in its place is replaced as well.
    client.result_of("knowledge.upsert", json!({"document_id": file, "title": "Other", "content": "Other"})).await;
    expect(1, 1).await;
    assert_eq!(document(&client, &file).await["content"], "# One");
}

#[tokio::test]
async fn a_load_that_was_interrupted_goes_on() {
    let app = TestApp::start().await;
    let client = app.admin();
    let files = Folder::new();
    for number in 0..60 {
        files.write(&format!("in/{number}.md"), format!("# Number {number}"));
    }
    let folder = files.path("in");
    let arguments = [folder.as_str(), "--concurrency", "2"];
    let first = tokio::select! {
        output = load(&app, &client, &arguments) => Some(output),
        () = wait_until_count("some are written", 5, async || app.stack.count("select count(*) from knowledge_document").await) => None,
    };
    assert!(first.is_none(), "it was to be killed while it was loading");
    let (code, text) = said(&app, &client, &arguments).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(app.stack.count("select count(*) from knowledge_document").await, 60);
    assert_eq!(upserts(&client.audit().await), 60, "a document was written twice");
}

/// A server with room for nothing but the second request of each key.
async fn busy(State(seen): State<Arc<Mutex<HashMap<String, Instant>>>>, headers: HeaderMap) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut seen = seen.lock().unwrap();
    let count = seen.len();
    match seen.get(&key) {
        None => {
            seen.insert(key, Instant::now());
            let status = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE][count % 2];
            (status, [("retry-after", "1")]).into_response()
        }
        Some(first) if first.elapsed() < Duration::from_secs(1) => StatusCode::CONFLICT.into_response(),
        Some(_) => axum::Json(json!({"status": "succeeded", "result": {}})).into_response(),
    }
}

/// Loads into a server of the test's own.
async fn load_into(server: Router, paths: &[PathBuf]) -> Summary {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, server).await });
    let options = Options { url, token: "t".to_owned(), paths: paths.to_vec(), locale: "en".to_owned(), concurrency: 2 };
    let summary = loader::load(&options).await.unwrap();
    server.abort();
    summary
}

#[tokio::test]
async fn a_server_that_has_no_room_is_asked_again_when_it_says() {
    let files = Folder::new();
    let paths = ["a.md", "b.md"].map(|name| PathBuf::from(files.write(name, format!("# {name}"))));
    let summary = load_into(Router::new().fallback(busy).with_state(Arc::default()), &paths).await;
    assert_eq!((summary.written, summary.unchanged, summary.failed), (2, 0, 0));
    assert_eq!(summary.bytes, 12);
}

/// A server on whose record the first two calls have failed, and whose first answer to the third breaks off. The keys it was sent.
async fn failed_before(State(keys): State<Arc<Mutex<Vec<String>>>>, headers: HeaderMap) -> Response {
    let mut keys = keys.lock().unwrap();
    keys.push(headers["idempotency-key"].to_str().unwrap().to_owned());
    let count = keys.len();
    match count {
        1 | 2 => {
            let error = json!({"type": "urn:toolgate:tool:timeout", "detail": "it took too long"});
            let failed = json!({"call_id": format!("call-{count}"), "status": "failed", "error": error});
            ([("idempotency-replayed", "true")], axum::Json(failed)).into_response()
        }
        3 => r#"{"status": "succ"#.into_response(),
        _ => axum::Json(json!({"status": "succeeded", "result": {}})).into_response(),
    }
}

#[tokio::test]
async fn what_failed_in_an_earlier_load_is_tried_again_and_half_an_answer_is_none() {
    let files = Folder::new();
    let path = PathBuf::from(files.write("a.md", "# a"));
    let keys = Arc::default();
    let summary = load_into(Router::new().fallback(failed_before).with_state(Arc::clone(&keys)), &[path]).await;
    assert_eq!((summary.written, summary.unchanged, summary.failed), (1, 0, 0));
    let keys = keys.lock().unwrap();
    let first = &keys[0];
    assert_eq!(keys[1..], [format!("{first}:call-1"), format!("{first}:call-2"), format!("{first}:call-2")]);
}
