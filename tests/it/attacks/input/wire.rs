//! HTTP itself. A refusal by the HTTP library (400, 414, 431) has no body; those by the gateway are problems like all others.

use serde_json::json;

use crate::app::{TestApp, send_raw};

const BODY: &str = r#"{"tool":"task.create","arguments":{"title":"T"}}"#;

/// Name, request line, header fields, and the body; `TOKEN` stands for a good token's field.
type Attack = (&'static str, String, Vec<String>, String);

fn attacks() -> Vec<Attack> {
    let post = "POST /v1/tool-calls HTTP/1.1".to_owned();
    let get = |target: &str| format!("GET {target} HTTP/1.1");
    let host = "Host: a".to_owned();
    let length = format!("Content-Length: {}", BODY.len());
    let chunked = "Transfer-Encoding: chunked".to_owned();
    let chunk = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let both = |first: &str, second: &str| vec![host.clone(), first.to_owned(), second.to_owned()];
    let body = BODY.to_owned();
    vec![
        ("two lengths", post.clone(), both(&length, "Content-Length: 5"), body.clone()),
        ("two lengths in one field", post.clone(), both("Content-Length: 4, 5", "X: y"), body.clone()),
        ("a negative length", post.clone(), both("Content-Length: -1", "X: y"), body.clone()),
        ("a signed length", post.clone(), both("Content-Length: +48", "X: y"), body.clone()),
        ("a length in hexadecimal", post.clone(), both("Content-Length: 0x30", "X: y"), body.clone()),
        ("a length beyond 64 bits", post.clone(), both("Content-Length: 99999999999999999999", "X: y"), body.clone()),
        ("another encoding", post.clone(), both("Transfer-Encoding: gzip", "X: y"), chunk.clone()),
        ("chunks that are not last", post.clone(), both("Transfer-Encoding: chunked, gzip", "X: y"), chunk.clone()),
        ("an encoding that looks like chunks", post.clone(), both("Transfer-Encoding: xchunked", "X: y"), chunk.clone()),
        ("chunks in HTTP/1.0", "POST /v1/tool-calls HTTP/1.0".to_owned(), both(&chunked, "X: y"), chunk.clone()),
        ("a chunk of no size", post.clone(), both(&chunked, "X: y"), format!("\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk of a negative size", post.clone(), both(&chunked, "X: y"), format!("-5\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk of letters", post.clone(), both(&chunked, "X: y"), format!("zz\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk beyond 64 bits", post.clone(), both(&chunked, "X: y"), format!("fffffffffffffffff\r\n{BODY}\r\n")),
        ("a chunk that is longer than its size", post.clone(), both(&chunked, "X: y"), format!("5\r\n{BODY}\r\n0\r\n\r\n")),
        ("no host", post.clone(), vec![length.clone()], body.clone()),
        ("two hosts", post.clone(), both("Host: b", &length), body.clone()),
        ("a space before the colon", post.clone(), both("Content-Length : 5", "X: y"), body.clone()),
        ("a folded field", post.clone(), both("X: y\r\n z: 1", &length), body.clone()),
        ("a field without a colon", post.clone(), both("garbage", &length), body.clone()),
        ("a NUL in a field", post.clone(), both("X: a\0b", &length), body.clone()),
        ("a bare return in a field", post.clone(), both("X: a\rb", &length), body.clone()),
        (
            "a field of an enormous length",
            get("/v1/tasks"),
            vec![host.clone(), format!("X: {}", "x".repeat(1_000_000))],
            String::new(),
        ),
        (
            "two hundred fields",
            get("/v1/tasks"),
            std::iter::once(host.clone()).chain((0..200).map(|n| format!("X-{n}: y"))).collect(),
            String::new(),
        ),
        ("an enormous target", get(&format!("/v1/tasks?{}", "x".repeat(100_000))), vec![host.clone()], String::new()),
        ("a target with a space", get("/v1/tasks ?x"), vec![host.clone()], String::new()),
        ("a target without a slash", get("v1/tasks"), vec![host.clone()], String::new()),
        ("an asterisk", get("*"), vec![host.clone()], String::new()),
        ("a path that climbs", get("/v1/tools/../tasks"), vec![host.clone()], String::new()),
        ("a path that climbs in escapes", get("/v1/%2e%2e/healthz"), vec![host.clone()], String::new()),
        ("another host's path", get("http://evil.example/v1/no-such-path"), vec![host.clone()], String::new()),
        ("a tunnel", "CONNECT example.com:443 HTTP/1.1".to_owned(), vec![host.clone()], String::new()),
        ("a method nobody has", "BREW /v1/tasks HTTP/1.1".to_owned(), vec![host.clone()], String::new()),
        ("a method with a space before it", " GET /v1/tasks HTTP/1.1".to_owned(), vec![host.clone()], String::new()),
        ("a version nobody has", "GET /v1/tasks HTTP/9.9".to_owned(), vec![host.clone()], String::new()),
        ("no version", "GET /v1/tasks".to_owned(), vec![host.clone()], String::new()),
        ("an upgrade", get("/v1/no-such-path"), both("Connection: Upgrade", "Upgrade: h2c"), String::new()),
    ]
}

pub fn names() -> Vec<&'static str> {
    attacks().into_iter().map(|(name, ..)| name).collect()
}

fn request(line: &str, fields: &[String], token: &str, body: &str) -> Vec<u8> {
    let credentials = format!("Authorization: Bearer {token}\r\nIdempotency-Key: k\r\nContent-Type: application/json");
    format!("{line}\r\n{}\r\n{credentials}\r\n\r\n{body}", fields.join("\r\n")).into_bytes()
}

#[tokio::test]
async fn no_attack_on_the_wire_gets_more_than_one_refusal() {
    let app = TestApp::start().await;
    let client = app.admin();
    for (name, line, fields, body) in attacks() {
        // Where the server would let the connection live on, it is asked not to.
        let close = ["Connection: close".to_owned()];
        let fields = [&close[..], &fields].concat();
        let raw = send_raw(&client.url, &request(&line, &fields, &client.token, &body)).await;
        let statuses = raw.statuses();
        assert!(statuses.len() <= 1, "{name}: {raw:?}");
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{name}: {raw:?}");
    }
    app.stack.assert_untouched().await;
}

/// RFC 9112, section 6.3: chunks win over a length, and the connection ends, so that nothing behind them is read as a request.
#[tokio::test]
async fn a_length_beside_chunks_is_ignored_and_nothing_is_smuggled() {
    let app = TestApp::start().await;
    let client = app.admin();
    let host = "Host: a".to_owned();
    let length = format!("Content-Length: {}", BODY.len());
    let smuggled = request("POST /v1/tool-calls HTTP/1.1", &[host.clone(), length.clone()], &client.token, BODY);
    let smuggled = String::from_utf8(smuggled).unwrap().replace("Idempotency-Key: k", "Idempotency-Key: smuggled");
    for lengths in [length.as_str(), "Content-Length: 4", "Content-Length: 0"] {
        let chunked = "Transfer-Encoding: chunked";
        for (first, second) in [(lengths, chunked), (chunked, lengths)] {
            let fields = [host.clone(), first.to_owned(), second.to_owned()];
            let body = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n{smuggled}", BODY.len());
            let raw = send_raw(&client.url, &request("POST /v1/tool-calls HTTP/1.1", &fields, &client.token, &body)).await;
            assert_eq!(raw.statuses().len(), 1, "{raw:?}");
            assert!([200, 202].contains(&raw.statuses()[0]), "{raw:?}");
        }
    }
    // A tenant's events have one order: what came before this call is projected with it.
    client.result_of("task.create", json!({"title": "last"})).await;
    assert_eq!(client.get("/v1/tool-calls").await.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_only_looks_odd_on_the_wire_is_one_request() {
    let app = TestApp::start().await;
    let client = app.admin();
    let close = "Connection: close".to_owned();
    for (name, line, fields, status) in [
        ("the whole address as the target", "GET http://evil.example/v1/tasks HTTP/1.1", &["Host: a"][..], 200),
        ("HTTP/1.0 without a host", "GET /v1/tasks HTTP/1.0", &[], 200),
        ("field names in any case", "GET /v1/tasks HTTP/1.1", &["hOST: a"], 200),
        ("an upper-case id", "GET /v1/tool-calls/6F9619FF-8B86-5D01-B42D-00CF4FC964FF HTTP/1.1", &["Host: a"], 404),
        ("an expectation and no body", "GET /v1/tasks HTTP/1.1", &["Host: a", "Expect: 100-continue"], 200),
    ] {
        let fields: Vec<_> = fields.iter().map(|&field| field.to_owned()).chain([close.clone()]).collect();
        let raw = send_raw(&client.url, &request(line, &fields, &client.token, "")).await;
        let text = raw.0.replace("HTTP/1.0 ", "HTTP/1.1 ");
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {raw:?}");
    }
    // RFC 9112, section 2.2, lets a line end without its return; it ends the same line for every reader here.
    let text = String::from_utf8(request("GET /v1/tasks HTTP/1.1", &["Host: a".to_owned(), close], &client.token, "")).unwrap();
    assert_eq!(send_raw(&client.url, text.replace("\r\n", "\n").as_bytes()).await.statuses(), [200]);
}
