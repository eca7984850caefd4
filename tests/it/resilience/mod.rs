//! Upstreams that hang, break off, drip, flood and die: every call ends, says how, and is tried again only where that is safe.

mod breaker;
mod cache;
mod cancel;
mod crashes;
mod hostile;
mod lanes;
mod upstream;

use serde_json::{Value, json};
use toolgate::settings::Settings;

use crate::app::{Client, TestApp};

use self::upstream::Upstream;

/// An application that may reach the upstreams.
async fn app(upstreams: &[&Upstream], change: impl FnOnce(&mut Settings)) -> TestApp {
    let allowed = upstreams.iter().map(|upstream| upstream.authority()).collect();
    TestApp::start_with(|settings| {
        settings.egress_allow = allowed;
        settings.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
        change(settings);
    })
    .await
}

fn request(method: &str, url: &str) -> Value {
    json!({"tool": "http.request", "arguments": {"method": method, "url": url}})
}

/// A request that allows so many milliseconds for each attempt.
fn hurried(method: &str, url: &str, timeout_ms: u32) -> Value {
    let mut body = request(method, url);
    body["options"] = json!({"timeout_ms": timeout_ms});
    body
}

/// A GET that an answer of the last minute will do for.
fn unhurried_about_news(url: &str) -> Value {
    let mut body = request("GET", url);
    body["options"] = json!({"freshness_seconds": 60});
    body
}

/// The types of a call's events, with the reason of each further attempt.
async fn story(client: &Client, call: &Value) -> Vec<String> {
    client.get_projected(call).await;
    let path = format!("/v1/tool-calls/{}/events", call["call_id"].as_str().unwrap());
    let events = client.get(&path).await.json();
    let told = |event: &Value| {
        let name = event["event_type"].as_str().unwrap().trim_start_matches("tool_call_").to_owned();
        event["data"]["reason"].as_str().map_or(name.clone(), |reason| format!("{name}: {reason}"))
    };
    events["items"].as_array().unwrap().iter().map(told).collect()
}

/// A key nobody else uses.
fn key() -> String {
    toolgate_store::Clock::system().new_id().to_string()
}

async fn outcome(client: &Client, body: &Value) -> Value {
    let answer = client.call_and_wait(&key(), body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn metric(client: &Client, sample: &str) -> Option<String> {
    let text = crate::app::send(client.anonymous(reqwest::Method::GET, "/metrics")).await.text();
    text.lines().find_map(|line| line.strip_prefix(sample)).map(|value| value.trim().to_owned())
}
