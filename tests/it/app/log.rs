//! What only a stranger would write to the log.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use toolgate_events::{Authorization, CallOptions, Lane, ToolCallRequested};

/// Publishes bytes as they are, since no client of the log would write them. Returns when the server has them.
pub async fn publish_raw(nats: &SecretString, subject: &str, payload: &[u8]) {
    RawNats::open(nats).await.publish(subject, payload).await.unwrap();
}

/// The client protocol of NATS, spoken by hand.
#[derive(Debug)]
pub struct RawNats {
    stream: BufReader<TcpStream>,
}

impl RawNats {
    pub async fn open(nats: &SecretString) -> Self {
        let (login, address) = nats.expose_secret().trim_start_matches("nats://").split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let mut raw = Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) };
        let connect = format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n");
        raw.send(connect.as_bytes()).await.unwrap();
        raw
    }

    /// # Errors
    /// What the server says against it.
    pub async fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<(), String> {
        let mut bytes = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.send(&bytes).await
    }

    /// # Errors
    /// What the server says against it.
    pub async fn subscribe(&mut self, subject: &str) -> Result<(), String> {
        self.send(format!("SUB {subject} 1\r\nUNSUB 1\r\n").as_bytes()).await
    }

    /// Returns when the server has read everything.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(&[bytes, b"PING\r\n"].concat()).await.unwrap();
        let mut outcome = Ok(());
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).await.unwrap(), 0, "the server hung up");
            if line.starts_with("-ERR") {
                outcome = Err(line.trim().to_owned());
            }
        }
        outcome
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
        data_subject: None,
        erased: false,
    })
}
