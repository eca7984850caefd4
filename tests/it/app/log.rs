//! What only a stranger would write to the log.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use toolgate_events::{Authorization, CallOptions, Lane, ToolCallRequested};

/// Publishes bytes as they are, speaking the client protocol of NATS by hand, since no client of the log would write them.
/// Returns when the server has them.
pub async fn publish_raw(nats: &SecretString, subject: &str, payload: &[u8]) {
    let (login, address) = nats.expose_secret().trim_start_matches("nats://").split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let connect = format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n");
    let mut bytes = connect.into_bytes();
    bytes.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\nPING\r\n");
    stream.write_all(&bytes).await.unwrap();
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the server hung up");
        assert!(!line.starts_with("-ERR"), "{line}");
    }
}

/// A request as the command API would record it.
pub fn request(fingerprint: &str) -> Box<ToolCallRequested> {
    Box::new(ToolCallRequested {
        tool: "task.create".to_owned(),
        lane: Lane::new("task").unwrap(),
        arguments: Map::from_iter([("title".to_owned(), json!("From the log"))]),
        session_id: None,
        options: CallOptions::default(),
        request_fingerprint: fingerprint.to_owned(),
        authorization: Authorization {
            policy_version: "p".to_owned(),
            rule: "r".to_owned(),
            principal: "tester".to_owned(),
            roles: vec!["agent".to_owned()],
            permissions: Vec::new(),
            tool_version: 1,
            contract_hash: "c".to_owned(),
        },
    })
}
