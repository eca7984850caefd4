//! What the schemas say, at the limit and one beyond it.

use serde_json::{Value, json};

use super::{assert_failed, search, upsert};
use crate::app::TestApp;

fn items(count: usize) -> Value {
    (0..count).map(|id| json!({"id": id.to_string(), "vector": [1]})).collect()
}

fn item(member: &str, value: &Value) -> Value {
    let mut item = json!({"id": "a", "vector": [1]});
    item[member] = value.clone();
    json!([item])
}

#[tokio::test]
async fn an_upsert_is_held_to_its_schema() {
    let app = TestApp::start().await;
    let client = app.admin();
    let members =
        |count: usize| -> Value { (0..count).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into() };
    let collection = |length: usize| upsert(&"c".repeat(length), items(1));
    let bodies = [
        (upsert("a", items(1)), upsert("a", items(0)), "/arguments/items"),
        (upsert("b", items(500)), upsert("b", items(501)), "/arguments/items"),
        (upsert("c", item("vector", &json!([1]))), upsert("c", item("vector", &json!([]))), "/arguments/items/0/vector"),
        (
            upsert("d", item("vector", &json!(vec![1; 2_000]))),
            upsert("d", item("vector", &json!(vec![1; 2_001]))),
            "/arguments/items/0/vector",
        ),
        (
            upsert("e", item("vector", &json!([1e9]))),
            upsert("e", item("vector", &json!([1.000_1e9]))),
            "/arguments/items/0/vector/0",
        ),
        (
            upsert("f", item("vector", &json!([-1e9]))),
            upsert("f", item("vector", &json!([-1.000_1e9]))),
            "/arguments/items/0/vector/0",
        ),
        (upsert("g", item("id", &json!("i"))), upsert("g", item("id", &json!(""))), "/arguments/items/0/id"),
        (
            upsert("h", item("id", &json!("i".repeat(255)))),
            upsert("h", item("id", &json!("i".repeat(256)))),
            "/arguments/items/0/id",
        ),
        (
            upsert("i", item("text", &json!("t".repeat(10_000)))),
            upsert("i", item("text", &json!("t".repeat(10_001)))),
            "/arguments/items/0/text",
        ),
        (upsert("j", item("metadata", &members(50))), upsert("j", item("metadata", &members(51))), "/arguments/items/0/metadata"),
        (collection(1), collection(0), "/arguments/collection"),
        (collection(100), collection(101), "/arguments/collection"),
    ];
    for (number, (good, bad, pointer)) in bodies.iter().enumerate() {
        let outcome = client.call_and_wait(&format!("good-{number}"), good).await.json();
        assert_eq!(outcome["status"], "succeeded", "{pointer}: {outcome}");
        let problem = client.call(&format!("bad-{number}"), bad).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], *pointer, "{problem}");
    }
    for bad in [
        json!([{"id": "a", "vector": ["1"]}]),
        json!([{"id": "a", "vector": [null]}]),
        json!([{"id": "a", "vector": [1], "x": 1}]),
    ] {
        client.call("bad", &upsert("k", bad)).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn a_search_that_would_compare_too_much_fails_and_a_filter_helps() {
    let app = TestApp::start_with(|settings| settings.vector_max_components = 7).await;
    let client = app.admin();
    let question = json!({"collection": "c", "vector": [1, 1]});
    for (count, is_found) in [(1, true), (2, true), (3, true), (4, false), (5, false)] {
        let item = json!([{"id": count.to_string(), "vector": [1, count], "metadata": {"even": count % 2 == 0}}]);
        client.result_of("vector.upsert", upsert("c", item)["arguments"].clone()).await;
        let outcome = search(&client, question.clone()).await;
        if is_found {
            assert_eq!(outcome["result"]["scanned"], count, "{outcome}");
        } else {
            assert_failed(&outcome, "invalid-arguments", "more than 3 vectors");
        }
    }
    let mut filtered = question;
    filtered["filter"] = json!({"even": false});
    assert_eq!(search(&client, filtered).await["result"]["scanned"], 3);
}

#[tokio::test]
async fn a_search_is_held_to_its_schema() {
    let app = TestApp::start().await;
    let client = app.admin();
    client.result_of("vector.upsert", upsert("c", items(500))["arguments"].clone()).await;
    let members =
        |count: usize| -> Value { (0..count).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into() };
    for (number, (member, good, bad)) in [
        ("top_k", json!(1), json!(0)),
        ("top_k", json!(100), json!(101)),
        ("text", json!("t"), json!("")),
        ("text", json!("t".repeat(1_000)), json!("t".repeat(1_001))),
        ("filter", members(20), members(21)),
        ("metric", json!("dot"), json!("euclid")),
    ]
    .into_iter()
    .enumerate()
    {
        let body = |value: &Value| {
            let mut body = json!({"tool": "vector.search", "arguments": {"collection": "c", "vector": [1]}});
            body["arguments"][member] = value.clone();
            body
        };
        let outcome = client.call_and_wait(&format!("good-{number}"), &body(&good)).await.json();
        assert_eq!(outcome["status"], "succeeded", "{member}: {outcome}");
        if member == "top_k" {
            assert_eq!(json!(outcome["result"]["hits"].as_array().unwrap().len()), good);
        }
        client.call(&format!("bad-{number}"), &body(&bad)).await.problem(400, "invalid");
    }
}
