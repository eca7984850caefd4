//! Header fields that name two things, or none.

use reqwest::Method;
use serde_json::json;

use super::{Vector, assert_accepted, assert_refused};
use crate::app::{TestApp, send, task};

const TASK: &str = r#"{"tool":"task.create","arguments":{"title":"T"}}"#;

fn typed(name: &'static str, content_type: impl Into<Vec<u8>>) -> Vector {
    Vector::post(name, TASK).without("content-type").with("content-type", content_type)
}

fn keyed(name: &'static str, key: impl Into<Vec<u8>>) -> Vector {
    Vector::post(name, TASK).without("idempotency-key").with("idempotency-key", key)
}

pub fn vectors() -> Vec<Vector> {
    let mut vectors: Vec<_> = [
        Vector::post("no content type", TASK).without("content-type"),
        typed("an empty content type", ""),
        typed("text", "text/plain"),
        typed("a form by its type", "application/x-www-form-urlencoded"),
        typed("a multipart form", "multipart/form-data; boundary=x"),
        typed("JSON for another purpose", "application/json-patch+json"),
        typed("almost JSON", "application/jsonx"),
        typed("JSON with a suffix", "application/problem+json"),
        typed("any type", "*/*"),
        typed("UTF-16 by its charset", "application/json; charset=utf-16"),
        typed("two charsets", "application/json; charset=utf-8; charset=utf-7"),
        typed("a parameter of the type that nobody knows", "application/json; version=1"),
        typed("two types in one field", "application/json, text/plain"),
        typed("a content type that is not ASCII", b"application/json\xff".to_vec()),
        typed("the same content type twice", "application/json").with("content-type", "application/json"),
        typed("two content types", "application/json").with("content-type", "text/plain"),
        typed("two content types, the other one first", "text/plain").with("content-type", "application/json"),
        Vector::post("gzip", TASK).with("content-encoding", "gzip"),
        Vector::post("identity", TASK).with("content-encoding", "identity"),
        Vector::post("an unknown encoding", TASK).with("content-encoding", "x"),
        Vector::post("an empty encoding", TASK).with("content-encoding", ""),
    ]
    .into_iter()
    .map(|vector| vector.refused_with(415, "unsupported-media-type"))
    .collect();
    vectors.extend(
        [
            Vector::post("no key", TASK).without("idempotency-key"),
            keyed("an empty key for a call", ""),
            keyed("a quoted empty key", "\"\""),
            keyed("a key of 256 characters", "k".repeat(256)),
            keyed("a key that does not end", "\"k"),
            keyed("a key with a bad escape", r#""\n""#),
            keyed("a key with something after it", r#""k"x"#),
            keyed("a key with a tab", "a\tb"),
            keyed("a key in UTF-8", "schlüssel".as_bytes()),
            keyed("a key in Latin-1", b"schl\xfcssel".to_vec()),
            keyed("two keys", "a").with("idempotency-key", "b"),
            keyed("the same key twice", "a").with("idempotency-key", "a"),
        ]
        .map(|vector| vector.at("Idempotency-Key")),
    );
    vectors.push(Vector::get("a last event that is no position", "/v1/events").with("last-event-id", "x").at("Last-Event-ID"));
    vectors.push(Vector::get("a last event beyond 64 bits", "/v1/events").with("last-event-id", "18446744073709551616"));
    for (name, accept) in [
        ("accepting HTML alone", "text/html"),
        ("accepting anything but JSON", "*/*, application/json;q=0"),
        ("accepting nothing", "*/*;q=0"),
        ("accepting what is no media type", "json"),
    ] {
        vectors.push(Vector::post(name, TASK).with("accept", accept).refused_with(406, "not-acceptable"));
    }
    vectors
}

#[tokio::test]
async fn every_header_that_can_be_read_in_two_ways_is_refused() {
    assert_refused(vectors()).await;
}

#[tokio::test]
async fn headers_that_mean_one_thing_are_accepted() {
    assert_accepted(vec![
        typed("a charset that is the only one", "application/json; charset=utf-8"),
        typed("a charset in quotes and capitals", "Application/JSON;Charset=\"UTF-8\""),
        keyed("a key of 255 characters", "k".repeat(255)),
        keyed("a key of one character", "k"),
        keyed("a quoted key with an escape", r#""a\"b""#),
        Vector::post("any answer", TASK).with("accept", "*/*"),
        Vector::post("JSON at last", TASK).with("accept", "text/html, application/*;q=0.1"),
        Vector::post("a wait that is negative", TASK).with("prefer", "wait=-1"),
        Vector::post("a wait beyond 64 bits", TASK).with("prefer", "wait=99999999999999999999"),
        Vector::post("a wait that is no number", TASK).with("prefer", "wait=soon"),
        Vector::post("a preference nobody knows", TASK).with("prefer", b"\xff".to_vec()),
        Vector::post("a preference twice", TASK).with("prefer", "wait=0").with("prefer", "wait=1"),
        Vector::post("a trace that is garbage", TASK).with("traceparent", "00-zz"),
        Vector::post("a request id that is not printable", TASK).with("x-request-id", b"a\xff\tb".to_vec()),
    ])
    .await;
}

#[tokio::test]
async fn an_id_of_a_request_comes_back_only_when_it_is_one() {
    let app = TestApp::start().await;
    let client = app.admin();
    let long = "i".repeat(129);
    let asked = async |id: &[u8]| {
        let answer = send(client.request(Method::GET, "/v1/tasks").header("x-request-id", id)).await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(asked(b"my-id").await, "my-id");
    assert_eq!(asked(&long.as_bytes()[..128]).await, long[..128]);
    for bad in [&b"two words"[..], b"", b"a\tb", b"caf\xe9", long.as_bytes()] {
        let id = asked(bad).await;
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[tokio::test]
async fn a_wait_is_bounded_and_the_first_of_two_counts() {
    let app = TestApp::start().await;
    let client = app.admin();
    for (number, (values, applied)) in
        [(&["wait=61"][..], "wait=60"), (&["wait=60"], "wait=60"), (&["wait=59"], "wait=59"), (&["wait=30", "wait=1"], "wait=30")]
            .into_iter()
            .enumerate()
    {
        let mut request = client.request(Method::POST, "/v1/tool-calls").header("idempotency-key", number).json(&task());
        for value in values {
            request = request.header("prefer", *value);
        }
        let answer = send(request).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (200, applied), "{values:?}");
    }
}

#[tokio::test]
async fn what_a_client_does_not_accept_is_said_after_who_may_ask() {
    let app = TestApp::start().await;
    let client = app.admin();
    let nobody = app.client(client.tenant, "nobody");
    for (path, produced) in [
        ("/v1/tool-calls", "application/json"),
        ("/v1/tools", "application/json"),
        ("/v1/audit", "application/json"),
        ("/v1/audit/export", "application/x-ndjson"),
        ("/v1/events", "text/event-stream"),
    ] {
        let accepting = |client: &crate::app::Client, accept: &str| client.request(Method::GET, path).header("accept", accept);
        let excluded = format!("{produced};q=0, */*");
        for accept in ["text/html", excluded.as_str()] {
            let problem = send(accepting(&client, accept)).await.problem(406, "not-acceptable");
            assert!(problem["detail"].as_str().unwrap().contains(produced), "{problem}");
            send(accepting(&nobody, accept)).await.problem(403, "forbidden");
            send(client.anonymous(Method::GET, path).header("accept", accept)).await.problem(401, "unauthenticated");
        }
        for accept in [produced, "*/*", "text/html;q=0.9, */*;q=0.1"] {
            assert_eq!(accepting(&client, accept).send().await.unwrap().status(), 200, "{path}: {accept}");
        }
    }
    // Nothing is looked up, let alone cancelled, for an answer that cannot be given.
    let cancel = client.request(Method::POST, "/v1/tool-calls/00000000-0000-0000-0000-000000000001/cancel");
    send(cancel.header("accept", "text/html")).await.problem(406, "not-acceptable");
    let refused = client.request(Method::POST, "/v1/tool-calls").header("idempotency-key", "k").header("accept", "text/html");
    send(refused.json(&json!({"tool": "task.create", "arguments": {}}))).await.problem(406, "not-acceptable");
    assert_eq!(app.stack.events_in_log().await, 0);
}
