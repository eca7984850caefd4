use futures::{StreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Client;

/// A call that somebody was told is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posted {
    pub call_id: Uuid,
}

/// Posts `count` calls of every kind under keys of their own, `concurrency` at a time, and answers with those that got a 2xx. A
/// post that finds nobody or is refused is left alone: only what was promised counts. `progress` hears how many are through.
pub async fn post_mixed(client: &Client, count: usize, concurrency: usize, progress: impl Fn(usize)) -> Vec<Posted> {
    let mut answers = stream::iter(0..count)
        .map(|number| async move {
            let request = client
                .request(reqwest::Method::POST, "/v1/tool-calls")
                .header("idempotency-key", format!("load-{number}"))
                .json(&body(number))
                .timeout(std::time::Duration::from_secs(20));
            let answer = request.send().await.ok()?;
            if !answer.status().is_success() {
                return None;
            }
            let call: Value = answer.json().await.ok()?;
            Some(Posted { call_id: call["call_id"].as_str()?.parse().ok()? })
        })
        .buffer_unordered(concurrency);
    let (mut through, mut posted) = (0, Vec::new());
    while let Some(answer) = answers.next().await {
        posted.extend(answer);
        through += 1;
        progress(through);
    }
    posted
}

fn body(number: usize) -> Value {
    match number % 4 {
        0 => json!({"tool": "task.create", "arguments": {"title": format!("Task {number}")}}),
        1 => {
            json!({"tool": "knowledge.upsert", "arguments": {"document_id": format!("d{number}"), "title": "T", "content": "Some words"}})
        }
        2 => json!({"tool": "knowledge.search", "arguments": {"query": "words"}}),
        _ => json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "# Hi", "format": "html"}}),
    }
}
