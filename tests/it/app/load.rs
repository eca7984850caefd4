use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Client, eventually};

/// Posts `count` calls of every kind under keys of their own, `concurrency` at a time, each until it is accepted, as a client does
/// that knows its key makes that safe. Answers with the calls; `progress` hears how many are through.
pub async fn post_mixed(client: &Client, count: usize, concurrency: usize, progress: impl Fn(usize)) -> Vec<Uuid> {
    let mut answers = stream::iter(0..count).map(|number| post(client, number)).buffer_unordered(concurrency);
    let mut posted = Vec::with_capacity(count);
    while let Some(call) = answers.next().await {
        posted.push(call);
        progress(posted.len());
    }
    posted
}

async fn post(client: &Client, number: usize) -> Uuid {
    let (key, body) = (format!("load-{number}"), body(number));
    eventually("the call is accepted", async || {
        let request = client.request(reqwest::Method::POST, "/v1/tool-calls").header("idempotency-key", &key).json(&body);
        // Nobody there, or no answer: it may have been accepted all the same.
        let answer = request.timeout(Duration::from_secs(15)).send().await.ok()?;
        let status = answer.status().as_u16();
        assert!([200, 202, 503].contains(&status), "{status}");
        let call: Value = answer.json().await.ok()?;
        call["call_id"].as_str()?.parse().ok()
    })
    .await
}

fn body(number: usize) -> Value {
    match number % 4 {
        0 => json!({"tool": "task.create", "arguments": {"title": format!("Task {number}")}}),
        1 => json!({
            "tool": "knowledge.upsert",
            "arguments": {"document_id": format!("d{number}"), "title": "T", "content": "Some words"},
        }),
        2 => json!({"tool": "knowledge.search", "arguments": {"query": "words"}}),
        _ => json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "# Hi", "format": "html"}}),
    }
}
