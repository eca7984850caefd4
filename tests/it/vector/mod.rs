//! `vector.upsert` and `vector.search`.

mod engines;
mod limits;
mod search;
mod upsert;

use serde_json::{Value, json};

use crate::app::Client;

fn upsert(collection: &str, items: Value) -> Value {
    json!({"tool": "vector.upsert", "arguments": {"collection": collection, "items": items}})
}

/// The answer to a search; what was upserted before is projected.
async fn search(client: &Client, arguments: Value) -> Value {
    let key = toolgate_store::Clock::system().new_id().to_string();
    client.call_and_wait(&key, &json!({"tool": "vector.search", "arguments": arguments})).await.json()
}

fn ids(outcome: &Value) -> Vec<&str> {
    let hits = outcome["result"]["hits"].as_array().unwrap_or_else(|| panic!("{outcome}"));
    hits.iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[track_caller]
fn assert_failed(outcome: &Value, kind: &str, words: &str) {
    assert_eq!(outcome["error"]["type"], format!("urn:toolgate:tool:{kind}"), "{outcome}");
    assert!(outcome["error"]["detail"].as_str().unwrap().contains(words), "{outcome}");
}
