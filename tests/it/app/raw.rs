use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A connection that is neither answered nor closed in this time has failed the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back on a connection until the server closed it.
#[derive(Debug)]
pub struct Raw(pub String);

/// Sends bytes as they are, on a connection of their own. This side stays open: a server that meets its end gives up what it was about
/// to do, and an attack would look refused.
pub async fn send_raw(url: &str, bytes: &[u8]) -> Raw {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        // A server that has seen enough hangs up in the middle; what it answered before counts.
        drop(stream.write_all(bytes).await);
        let mut chunk = [0; 16 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..length]);
        }
    };
    let answered = timeout(PATIENCE, talk).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(answered.is_ok(), "the connection stays open after {text:?}");
    Raw(text)
}

impl Raw {
    /// The status of every answer, in order.
    pub fn statuses(&self) -> Vec<u16> {
        self.0.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
    }
}
