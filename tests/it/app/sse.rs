use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

/// A frame that never comes fails the test.
const PATIENCE: Duration = Duration::from_secs(30);

/// One frame of an event stream (WHATWG HTML, section 9.2): its fields as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
    pub retry: Option<String>,
    pub comment: Option<String>,
}

/// An open event stream.
#[derive(Debug)]
pub struct Sse {
    response: reqwest::Response,
    unread: Vec<u8>,
}

impl Sse {
    pub fn new(response: reqwest::Response) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: Vec::new() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.response.headers()[name].to_str().unwrap()
    }

    /// The next frame of any kind, or `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read_frame()).await.expect("no frame came in time")
    }

    /// The next frame that carries an event, or `None` at the end. Heartbeats do not prolong the wait.
    pub async fn event(&mut self) -> Option<Frame> {
        let event = async {
            loop {
                let frame = self.read_frame().await?;
                if frame.event.is_some() {
                    return Some(frame);
                }
            }
        };
        timeout(PATIENCE, event).await.expect("no event came in time")
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let text: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(parse(std::str::from_utf8(&text).unwrap()));
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.unread.extend_from_slice(&chunk);
        }
    }

    pub async fn events(&mut self, count: usize) -> Vec<Frame> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.event().await.expect("the stream ended early"));
        }
        events
    }
}

impl Sse {
    /// Whether the answer has a header.
    pub fn has_header(&self, name: &str) -> bool {
        self.response.headers().contains_key(name)
    }

    /// Every event until the stream ends by itself.
    pub async fn until_end(mut self) -> Vec<Frame> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }
}

impl Frame {
    pub fn position(&self) -> u64 {
        self.id.as_ref().unwrap().parse().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    pub fn name(&self) -> &str {
        self.event.as_deref().unwrap()
    }
}

fn parse(text: &str) -> Frame {
    let mut frame = Frame::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "id" => frame.id = Some(value),
            "event" => frame.event = Some(value),
            "retry" => frame.retry = Some(value),
            "" => frame.comment = Some(value),
            "data" if frame.data.is_empty() => frame.data = value,
            "data" => frame.data = format!("{}\n{value}", frame.data),
            other => panic!("unknown field {other:?}"),
        }
    }
    frame
}
