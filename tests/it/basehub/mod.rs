//! `basehub.query`, against a server that works like BaseHub's.

mod cache;
mod failures;
mod pages;
mod server;

use serde_json::{Value, json};

use crate::app::Client;

async fn outcome(client: &Client, arguments: Value) -> Value {
    let key = toolgate_store::Clock::system().new_id().to_string();
    client.call_and_wait(&key, &json!({"tool": "basehub.query", "arguments": arguments})).await.json()
}
