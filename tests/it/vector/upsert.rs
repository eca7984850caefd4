use serde_json::json;

use super::{assert_failed, ids, search, upsert};
use crate::app::{Child, Client, Role, Stack, Tenant, TestApp, Token, wait_until};

#[tokio::test]
async fn the_same_id_replaces_the_item_and_the_same_call_changes_nothing() {
    let app = TestApp::start().await;
    let client = app.admin();
    let first = upsert("c", json!([{"id": "a", "vector": [1, 0], "metadata": {"v": 1}}, {"id": "b", "vector": [0, 1]}]));
    let called = client.call_and_wait("first", &first).await.json();
    client.get_projected(&called).await;
    client.result_of("vector.upsert", upsert("c", json!([{"id": "a", "vector": [0, 1]}]))["arguments"].clone()).await;
    client.call_and_wait("first", &first).await;
    let found = search(&client, json!({"collection": "c", "vector": [0, 1]})).await;
    assert_eq!(ids(&found), ["a", "b"]);
    assert_eq!(found["result"]["hits"][0]["metadata"], json!({}));
    assert_eq!(found["result"]["scanned"], 2);
}

#[tokio::test]
async fn what_no_schema_can_refuse_is_a_failed_call_that_keeps_nothing() {
    let app = TestApp::start().await;
    let client = app.admin();
    client.result_of("vector.upsert", upsert("c", json!([{"id": "a", "vector": [1, 0]}]))["arguments"].clone()).await;
    for (number, (items, words)) in [
        (json!([{"id": "b", "vector": [1]}]), "have 2 dimensions, and not 1"),
        (json!([{"id": "b", "vector": [1, 0, 0]}]), "have 2 dimensions, and not 3"),
        (json!([{"id": "b", "vector": [1, 0]}, {"id": "d", "vector": [1]}]), "differ"),
        (json!([{"id": "b", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}]), "twice"),
        (json!([{"id": "b", "vector": [0, 0]}]), "is zero"),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = client.call_and_wait(&number.to_string(), &upsert("c", items)).await.json();
        assert_failed(&outcome, "invalid-arguments", words);
    }
    assert_eq!(ids(&search(&client, json!({"collection": "c", "vector": [1, 0]})).await), ["a"]);
}

#[tokio::test]
async fn of_two_first_calls_the_earlier_makes_the_collection_and_the_other_is_set_aside() {
    let stack = Stack::new().await;
    let tenant = Tenant::new();
    let (commands, worker) = tokio::join!(Child::start(&stack, Role::CommandApi, &[]), Child::start(&stack, Role::Worker, &[]));
    let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    // Nothing is projected yet, so neither call can see what the other one makes.
    for (key, items) in [
        ("first", json!([{"id": "a", "vector": [1, 0]}])),
        ("second", json!([{"id": "a", "vector": [1, 0, 0]}, {"id": "b", "vector": [0, 1, 0]}])),
        ("third", json!([{"id": "c", "vector": [0, 1]}])),
    ] {
        let outcome = client.call_and_wait(key, &upsert("c", items)).await.json();
        assert_eq!(outcome["status"], "succeeded", "{outcome}");
    }
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("all is projected", async || stack.count("select count(*) from vector_item").await == 2).await;
    let reasons = "select count(*) from parked_event where reason = 'vectors of 3 dimensions do not belong to a collection of 2 dimensions'";
    assert_eq!(stack.count(reasons).await, 1);
    assert_eq!(ids(&search(&client, json!({"collection": "c", "vector": [1, 0]})).await), ["a", "c"]);
    assert_failed(&search(&client, json!({"collection": "c", "vector": [1, 0, 0]})).await, "invalid-arguments", "2 dimensions");
    drop(worker);
}
