use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Router, response::IntoResponse, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, header};
use serde_json::json;
use tokio::net::TcpListener;

use super::{fetch::MAX_DOCUMENT, *};

type Answer = Arc<Mutex<(StatusCode, Vec<u8>)>>;

struct Server {
    url: String,
    answer: Answer,
    fetches: Arc<AtomicUsize>,
}

fn document(kid: &str) -> String {
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode([7; 32])}]}).to_string()
}

impl Server {
    async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, document("a").into_bytes())));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (answers, counted) = (Arc::clone(&answer), Arc::clone(&fetches));
        let jwks = async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            answers.lock().unwrap().clone()
        };
        let elsewhere = async || (StatusCode::FOUND, [(header::LOCATION, "/jwks.json")]).into_response();
        let routes = Router::new().route("/jwks.json", get(jwks)).route("/elsewhere.json", get(elsewhere));
        tokio::spawn(axum::serve(listener, routes).into_future());
        Self { url, answer, fetches }
    }

    fn answer(&self, status: StatusCode, body: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    async fn keys(&self, path: &str) -> Keys {
        let source = KeySource::Url { url: format!("{}{path}", self.url), every: Duration::from_secs(300) };
        Keys::open(source, &mut Registry::default()).await.unwrap()
    }
}

fn kids(keys: &Keys) -> String {
    format!("{:?}", keys.current().set)
}

#[tokio::test]
async fn one_reading_serves_all_who_miss_a_key() {
    let server = Server::start().await;
    let keys = server.keys("/jwks.json").await;
    assert_eq!((keys.current().generation, kids(&keys).as_str()), (1, r#"{"a"}"#));
    assert_eq!(format!("{keys:?}"), r#"Keys(Current { generation: 1, set: {"a"} })"#);
    server.answer(StatusCode::OK, document("b"));
    let looked = futures::future::join_all((0..50).map(|_| keys.look_again(1))).await;
    assert!(looked.iter().all(|current| current.generation == 2));
    assert_eq!((server.fetches.load(Ordering::SeqCst), kids(&keys).as_str()), (2, r#"{"b"}"#));
    // Whoever has not seen the newest keys needs no reading, and within the cool-down nobody gets one.
    assert_eq!(keys.look_again(1).await.generation, 2);
    assert_eq!(keys.look_again(2).await.generation, 2);
    assert_eq!(server.fetches.load(Ordering::SeqCst), 2);

    // As if the time had passed. The document is the same, and so are the conclusions from it.
    keys.0.asked.lock().unwrap().as_mut().unwrap().at -= COOL_DOWN;
    assert_eq!(keys.look_again(1).await.generation, 2);
    assert_eq!(server.fetches.load(Ordering::SeqCst), 2);
    assert_eq!(keys.look_again(2).await.generation, 2);
    assert_eq!(server.fetches.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_reading_goes_on_when_its_caller_has_gone() {
    let server = Server::start().await;
    let keys = server.keys("/jwks.json").await;
    server.answer(StatusCode::OK, document("b"));
    let gone = futures::FutureExt::now_or_never(keys.look_again(1));
    assert!(gone.is_none(), "it was over before it could be given up");
    assert_eq!(keys.look_again(1).await.generation, 2);
    assert_eq!(server.fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn only_so_many_wait_for_a_reading() {
    let server = Server::start().await;
    let keys = server.keys("/jwks.json").await;
    let waiting = keys.0.waiters.try_acquire_many(63).unwrap();
    // The last place: its holder waits.
    assert!(futures::FutureExt::now_or_never(keys.look_again(1)).is_none());
    let all = keys.0.waiters.try_acquire().unwrap();
    let judged = futures::FutureExt::now_or_never(keys.look_again(1)).expect("nobody waits beyond that");
    assert_eq!(judged.generation, 1);
    drop((waiting, all));
    server.answer(StatusCode::OK, document("b"));
    keys.0.asked.lock().unwrap().take();
    assert_eq!(keys.look_again(1).await.generation, 2);
}

#[tokio::test]
async fn good_keys_outlive_bad_answers() {
    let server = Server::start().await;
    let keys = server.keys("/jwks.json").await;
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, document("b").into_bytes()),
        (StatusCode::NO_CONTENT, Vec::new()),
        (StatusCode::ACCEPTED, document("b").into_bytes()),
        (StatusCode::OK, b"<html>".to_vec()),
        (StatusCode::OK, vec![0xff]),
        (StatusCode::OK, Vec::new()),
    ] {
        server.answer(status, body);
        assert!(keys.0.load().await.is_err(), "{status}");
        assert_eq!((keys.current().generation, kids(&keys).as_str()), (1, r#"{"a"}"#));
    }
    // A set without keys is no mistake: it takes the keys back.
    assert!(keys.readiness().is_ok());
    server.answer(StatusCode::OK, r#"{"keys": []}"#);
    assert!(keys.0.load().await.is_ok());
    assert_eq!((keys.current().generation, kids(&keys).as_str()), (2, "{}"));
    assert!(keys.readiness().is_err());
}

#[tokio::test]
async fn a_document_has_at_most_a_mebibyte() {
    let server = Server::start().await;
    for (length, taken) in [(MAX_DOCUMENT - 1, true), (MAX_DOCUMENT, true), (MAX_DOCUMENT + 1, false)] {
        let document = document("a");
        let body = format!("{document}{}", " ".repeat(length - document.len()));
        server.answer(StatusCode::OK, body.clone());
        assert_eq!(server.keys("/jwks.json").await.readiness().is_ok(), taken, "{length}");
        let file = temporary(&body);
        assert_eq!(open_file(&file).await.is_ok(), taken, "{length}");
        std::fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start().await;
    assert!(server.keys("/elsewhere.json").await.readiness().is_err());
    assert_eq!(server.fetches.load(Ordering::SeqCst), 0);
    assert!(server.keys("/jwks.json").await.readiness().is_ok());
}

#[tokio::test]
async fn a_file_must_be_there_and_hold_a_key() {
    assert!(matches!(open_file(std::path::Path::new("/nowhere/jwks.json")).await, Err(ReadError::File(_))));
    for (text, is_empty) in [(r#"{"keys": []}"#, true), ("{", false)] {
        let file = temporary(text);
        let opened = open_file(&file).await;
        assert_eq!(matches!(opened, Err(ReadError::NoUsableKey)), is_empty, "{opened:?}");
        assert_eq!(matches!(opened, Err(ReadError::Malformed(_))), !is_empty, "{opened:?}");
        std::fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn readings_are_counted() {
    let server = Server::start().await;
    let mut registry = Registry::default();
    let source = KeySource::Url { url: format!("{}/jwks.json", server.url), every: Duration::from_secs(300) };
    let keys = Keys::open(source, &mut registry).await.unwrap();
    for _ in 0..2 {
        keys.0.load().await.unwrap();
    }
    server.answer(StatusCode::NOT_FOUND, "");
    keys.0.load().await.unwrap_err();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (outcome, count) in [("changed", 1), ("unchanged", 2), ("failed", 1)] {
        assert!(text.contains(&format!("jwks_refreshes_total{{outcome=\"{outcome}\"}} {count}\n")), "{text}");
    }
    let last = text.lines().find_map(|line| line.strip_prefix("jwks_last_success_timestamp_seconds ")).unwrap();
    // Between 2020 and 2100.
    assert!((1.5e9..4.1e9).contains(&last.parse::<f64>().unwrap()), "{last}");
}

#[tokio::test]
async fn each_source_has_its_own_pace() {
    let server = Server::start().await;
    let fixed = Reader::new(KeySource::Fixed(document("a"))).unwrap();
    assert_eq!(fixed.pause(true, true), None);
    let file = Reader::new(KeySource::File("x".into())).unwrap();
    assert_eq!(file.pause(true, true), Some(Duration::from_secs(1)));
    let url = |seconds| Reader::new(KeySource::Url { url: server.url.clone(), every: Duration::from_secs(seconds) }).unwrap();
    for (every, is_loaded, succeeded, pause) in
        [(300, true, true, 300), (300, true, false, 10), (5, true, false, 5), (300, false, false, 1), (300, false, true, 1)]
    {
        assert_eq!(url(every).pause(is_loaded, succeeded), Some(Duration::from_secs(pause)), "{every} {is_loaded} {succeeded}");
    }
}

#[tokio::test]
async fn a_document_that_never_changes_is_not_read_again() {
    let keys = Keys::open(KeySource::Fixed(document("a")), &mut Registry::default()).await.unwrap();
    assert_eq!(keys.look_again(1).await.generation, 1);
    assert!(keys.0.asked.lock().unwrap().is_none());
    // Ends at once, where another source would be followed for ever.
    keys.follow().await;
}

#[tokio::test]
async fn a_file_is_followed() {
    let file = temporary(&document("a"));
    let keys = open_file(&file).await.unwrap();
    let following = tokio::spawn(keys.clone().follow());
    std::fs::write(&file, document("b")).unwrap();
    let followed = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while keys.current().generation < 2 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), followed).await.unwrap();
    assert_eq!(kids(&keys), r#"{"b"}"#);
    following.abort();
    std::fs::remove_file(file).unwrap();
}

async fn open_file(path: &std::path::Path) -> Result<Keys, ReadError> {
    Keys::open(KeySource::File(path.to_path_buf()), &mut Registry::default()).await
}

fn temporary(text: &str) -> std::path::PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("toolgate-keys-{}-{}.json", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}
