use serde_json::json;

use super::{assert_failed, ids, search, upsert};
use crate::app::TestApp;

#[tokio::test]
async fn the_most_alike_come_first_with_their_metadata() {
    let app = TestApp::start().await;
    let client = app.admin();
    let items = json!([
        {"id": "north", "vector": [0, 2], "metadata": {"kind": "pole", "at": {"lat": 90}}},
        {"id": "east", "vector": [1, 0]},
        {"id": "north-east", "vector": [0.1, 0.1], "metadata": {"kind": "between"}},
        {"id": "south", "vector": [0, -1], "metadata": {"kind": "pole"}},
    ]);
    let upserted = client.result_of("vector.upsert", upsert("wind", items)["arguments"].clone()).await;
    assert_eq!(upserted, json!({"collection": "wind", "dimensions": 2, "upserted": 4}));

    let found = search(&client, json!({"collection": "wind", "vector": [0, 1]})).await;
    assert_eq!(ids(&found), ["north", "north-east", "east", "south"]);
    let result = &found["result"];
    assert_eq!((&result["exact"], &result["scanned"]), (&json!(true), &json!(4)));
    assert_eq!(result["hits"][0], json!({"id": "north", "score": 1.0, "metadata": {"kind": "pole", "at": {"lat": 90}}}));
    assert!((result["hits"][1]["score"].as_f64().unwrap() - 0.5_f64.sqrt()).abs() < 1e-6);
    assert_eq!(result["hits"][3]["score"], -1.0);

    let dot = search(&client, json!({"collection": "wind", "vector": [3, 1], "metric": "dot", "top_k": 2})).await;
    assert_eq!(ids(&dot), ["east", "north"]);
    assert_eq!((&dot["result"]["hits"][0]["score"], &dot["result"]["scanned"]), (&json!(3.0), &json!(4)));

    for (filter, expected) in [
        (json!({"kind": "pole"}), vec!["north", "south"]),
        (json!({"at": {"lat": 90}}), vec!["north"]),
        (json!({"kind": "pole", "x": 1}), vec![]),
        (json!({}), vec!["north", "north-east", "east", "south"]),
    ] {
        let found = search(&client, json!({"collection": "wind", "vector": [0, 1], "filter": filter})).await;
        assert_eq!(ids(&found), expected, "{filter}");
        assert_eq!(found["result"]["scanned"], expected.len(), "{filter}");
    }
}

#[tokio::test]
async fn with_text_both_rankings_are_fused() {
    let app = TestApp::start().await;
    let client = app.admin();
    let items = json!([
        {"id": "a", "vector": [1, 0], "text": "Kopi dari Bogor"},
        {"id": "b", "vector": [0.9, 0.1]},
        {"id": "c", "vector": [0, 1], "text": "Teh hijau, teh hitam", "metadata": {"kind": "drink"}},
        {"id": "d", "vector": [-1, 0], "text": "teh"},
    ]);
    client.result_of("vector.upsert", upsert("c", items)["arguments"].clone()).await;
    // By vector a b c d, by text c d.
    let found = search(&client, json!({"collection": "c", "vector": [1, 0], "text": "TEH"})).await;
    assert_eq!(ids(&found), ["c", "d", "a", "b"]);
    let score = |place: usize| found["result"]["hits"][place]["score"].as_f64().unwrap();
    assert!((score(0) - (1.0 / 63.0 + 1.0 / 61.0)).abs() < 1e-12 && (score(2) - 1.0 / 61.0).abs() < 1e-12, "{found}");
    // Words that nobody has leave the ranking by vectors.
    let none = search(&client, json!({"collection": "c", "vector": [1, 0], "text": "zzz", "top_k": 2})).await;
    assert_eq!(ids(&none), ["a", "b"]);
    let filtered =
        search(&client, json!({"collection": "c", "vector": [1, 0], "text": "teh", "filter": {"kind": "drink"}})).await;
    assert_eq!(ids(&filtered), ["c"]);
    assert_eq!(filtered["result"]["scanned"], 1);
}

#[tokio::test]
async fn another_tenants_collection_of_the_same_name_is_another() {
    let app = TestApp::start().await;
    let (one, other) = (app.admin(), app.admin());
    one.result_of("vector.upsert", upsert("c", json!([{"id": "secret", "vector": [1, 0]}]))["arguments"].clone()).await;
    let question = json!({"collection": "c", "vector": [1, 0]});
    assert_failed(&search(&other, question.clone()).await, "not-found", "no such collection");
    other.result_of("vector.upsert", upsert("c", json!([{"id": "mine", "vector": [1]}]))["arguments"].clone()).await;
    assert_failed(&search(&other, question.clone()).await, "invalid-arguments", "have 1 dimensions, and not 2");
    assert_eq!(ids(&search(&other, json!({"collection": "c", "vector": [1]})).await), ["mine"]);
    let found = search(&one, question).await;
    assert_eq!((ids(&found), &found["result"]["scanned"]), (vec!["secret"], &json!(1)));
}

#[tokio::test]
async fn a_question_without_a_direction_or_of_other_dimensions_fails() {
    let app = TestApp::start().await;
    let client = app.admin();
    client.result_of("vector.upsert", upsert("c", json!([{"id": "a", "vector": [1, 0]}]))["arguments"].clone()).await;
    for (vector, words) in [(json!([0, 0]), "is zero"), (json!([1]), "dimensions"), (json!([1, 0, 0]), "dimensions")] {
        let outcome = search(&client, json!({"collection": "c", "vector": vector})).await;
        assert_failed(&outcome, "invalid-arguments", words);
    }
    assert_failed(&search(&client, json!({"collection": "d", "vector": [1]})).await, "not-found", "no such collection");
}
