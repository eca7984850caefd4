//! The neighbours of every example, at the API.

use futures::StreamExt;
use serde_json::{Value, json};
use toolgate_events::tools;

use super::neighbours::{Vector, vectors};
use crate::app::{Client, TestApp, send};

/// Requests under way at once.
const CONCURRENCY: usize = 16;

#[tokio::test]
async fn what_a_contract_forbids_is_refused_where_it_is_wrong_and_its_limits_themselves_are_not() {
    let app = TestApp::start().await;
    let (mut all_refused, mut all_accepted) = (0, 0);
    for contract in tools::all() {
        let client = app.admin();
        let vectors = vectors(&contract.input_schema, &contract.examples);
        let refused = vectors.iter().filter(|vector| vector.spot.is_some()).count();
        let accepted = vectors.len() - refused;
        assert!(refused > 0 && accepted >= contract.examples.len(), "{}: {refused} and {accepted}", contract.name);
        println!("{}: {refused} refused, {accepted} accepted", contract.name);
        let checks =
            futures::stream::iter(vectors).for_each_concurrent(CONCURRENCY, |vector| check(&client, contract.name, vector));
        checks.await;
        all_refused += refused;
        all_accepted += accepted;
    }
    println!("in all: {all_refused} refused, {all_accepted} accepted");
    app.stack.assert_untouched().await;
}

/// Sends the arguments in a request that is wrong elsewhere, so that none of them is run: all errors are listed at once.
async fn check(client: &Client, tool: &str, vector: Vector) {
    let Vector { what, spot, arguments } = vector;
    let body = json!({"tool": tool, "arguments": arguments, "session_id": ""});
    let answer = send(client.request(reqwest::Method::POST, "/v1/tool-calls").header("idempotency-key", "k").json(&body)).await;
    let problem = answer.problem(400, "invalid");
    let errors: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    let (elsewhere, found): (Vec<_>, Vec<_>) = errors.into_iter().partition(|pointer| *pointer == "/session_id");
    assert_eq!(elsewhere.len(), 1, "{tool}: {what}: {problem}");
    let Some(spot) = spot else {
        assert!(found.is_empty(), "{tool}: {what}: {found:?}");
        return;
    };
    let spot = format!("/arguments{spot}");
    assert!(!found.is_empty(), "{tool}: {what} is accepted: {}", shortened(&body));
    for pointer in found {
        assert!(pointer == spot || pointer.starts_with(&format!("{spot}/")), "{tool}: {what}: {pointer} is not at {spot}");
    }
}

fn shortened(body: &Value) -> String {
    body.to_string().chars().take(500).collect()
}
