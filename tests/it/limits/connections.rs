//! Clients that are slow, idle, or many.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::app::{Child, Role, Stack, Tenant, Token};

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn connect(api: &Child) -> TcpStream {
    TcpStream::connect(api.url().replace("http://", "")).await.unwrap()
}

/// Reads the answer to one request for `/healthz`.
async fn answered(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"ok\n") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
    }
    assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read));
}

/// Reads until the server closes the connection.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    match stream.read_to_end(&mut read).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    read
}

async fn impatient() -> (Stack, Child) {
    let stack = Stack::new().await;
    let timeouts = [("TOOLGATE_HEADER_TIMEOUT_MS", "300"), ("TOOLGATE_BODY_TIMEOUT_MS", "300")];
    let api = Child::start(&stack, Role::CommandApi, &timeouts).await;
    (stack, api)
}

#[tokio::test]
async fn whoever_says_nothing_or_does_not_finish_a_head_is_cut() {
    let (_stack, api) = impatient().await;
    for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"POST /v1/tool-calls HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = connect(&api).await;
        stream.write_all(said).await.unwrap();
        assert_eq!(closed(stream).await, b"", "{}", String::from_utf8_lossy(said));
    }
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_keep_a_connection_open() {
    let (_stack, api) = impatient().await;
    let mut stream = connect(&api).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").await.unwrap();
    let mut drips = tokio::time::interval(std::time::Duration::from_millis(50));
    let cut = async {
        while stream.write_all(b"x").await.is_ok() {
            drips.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), cut).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_whatever_it_speaks() {
    let (_stack, api) = impatient().await;
    let mut stream = connect(&api).await;
    for _ in 0..2 {
        stream.write_all(HEALTHZ).await.unwrap();
        answered(&mut stream).await;
    }
    assert_eq!(closed(stream).await, b"");
    // HTTP/2: the preface and empty settings, then silence.
    let mut stream = connect(&api).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let said = closed(stream).await;
    assert_eq!(said.get(3), Some(&4), "the server's settings, and in the end goodbye");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_400() {
    let (stack, api) = impatient().await;
    let token = Token::of(Tenant::new(), "admin").sign(stack.issuer());
    let mut stream = connect(&api).await;
    let head = format!(
        "POST /v1/tool-calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: k\r\nContent-Length: 100\r\n\r\n{{\"tool\":"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(closed(stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("the body did not arrive within 300 ms"), "{answer}");
    assert_eq!(stack.events_in_log().await, 0);
}

#[tokio::test]
async fn one_connection_more_than_allowed_waits_for_another_to_close() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::CommandApi, &[("TOOLGATE_MAX_CONNECTIONS", "3")]).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&api).await;
        stream.write_all(HEALTHZ).await.unwrap();
        answered(&mut stream).await;
        open.push(stream);
    }
    let mut waiting = connect(&api).await;
    waiting.write_all(HEALTHZ).await.unwrap();
    for stream in &mut open {
        stream.write_all(HEALTHZ).await.unwrap();
        answered(stream).await;
    }
    let unanswered = waiting.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(unanswered.kind(), ErrorKind::WouldBlock, "it is not served beside the others");
    drop(open.pop());
    answered(&mut waiting).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_and_one_just_below_is_read() {
    let (_stack, api) = impatient().await;
    for (length, status) in [(48 * 1024, "HTTP/1.1 200"), (80 * 1024, "HTTP/1.1 431")] {
        let mut stream = connect(&api).await;
        let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(length));
        // The server may hang up before it has all of it.
        let _sent = stream.write_all(head.as_bytes()).await;
        let answer = closed(stream).await;
        assert!(answer.starts_with(status.as_bytes()), "{length}: {}", String::from_utf8_lossy(&answer));
    }
}
