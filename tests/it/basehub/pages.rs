use serde_json::{Value, json};

use super::{
    outcome,
    server::{BaseHub, TOKEN},
};
use crate::app::TestApp;

fn titles(outcome: &Value) -> Vec<&str> {
    let items = outcome["result"]["data"]["items"].as_array().unwrap_or_else(|| panic!("{outcome}"));
    items.iter().map(|item| item["_title"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let basehub = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[]).await;
    let client = app.admin();
    let page = async |skip: u32| {
        outcome(
            &client,
            json!({"blocks": {"list": "blog.posts", "fields": ["_title", "body.markdown"], "first": 2, "skip": skip}}),
        )
        .await
    };
    let (first, second, third, beyond) = (page(0).await, page(2).await, page(4).await, page(6).await);
    assert_eq!(titles(&first), ["Coffee 1", "Tea 2"]);
    assert_eq!(first["result"]["page"], json!({"first": 2, "skip": 0, "total": 5, "has_next": true}));
    assert_eq!(first["result"]["data"]["items"][0]["body"]["markdown"], "*1*\u{fffd}", "{first}");
    assert_eq!((titles(&second), &second["result"]["page"]["has_next"]), (vec!["Coffee 3", "Tea 4"], &json!(true)));
    assert_eq!((titles(&third), &third["result"]["page"]["has_next"]), (vec!["Coffee 5"], &json!(false)));
    assert_eq!((titles(&beyond), &beyond["result"]["page"]["has_next"]), (vec![], &json!(false)));
    let newest =
        outcome(&client, json!({"blocks": {"list": "blog.posts", "order_by": "_sys_createdAt__DESC", "first": 1}})).await;
    assert_eq!(newest["result"]["data"]["items"], json!([{"_id": "5", "_title": "Coffee 5", "_slug": "post-5"}]));
    let headers = &basehub.seen()[0];
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_search_finds_the_items_that_contain_a_text() {
    let basehub = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[]).await;
    let client = app.admin();
    let found = outcome(&client, json!({"search": {"list": "blog.posts", "term": "Coffee", "first": 2}})).await;
    assert_eq!(titles(&found), ["Coffee 1", "Coffee 3"]);
    assert_eq!(found["result"]["page"], json!({"first": 2, "skip": 0, "total": 3, "has_next": true}));
    let slug = json!({"search": {"list": "blog.posts", "term": "post-4", "field": "_sys_slug", "fields": ["_title"]}});
    assert_eq!(titles(&outcome(&client, slug).await), ["Tea 4"]);
    // Whatever the text is, it is a value and no part of the query.
    let odd = outcome(&client, json!({"search": {"list": "blog.posts", "term": "\"}}) { x }"}})).await;
    assert_eq!((titles(&odd), &odd["result"]["page"]["total"]), (vec![], &json!(0)));
}

#[tokio::test]
async fn a_query_of_ones_own_is_answered_as_it_is() {
    let basehub = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[]).await;
    let client = app.admin();
    let query = "query A($s: String) { s: site { name } blog { posts(filter: {_sys_slug: {eq: $s}}) { items { _title } } } } query B { site { name } }";
    let arguments = json!({"query": query, "variables": {"s": "post-2"}, "operation_name": "A"});
    let answered = outcome(&client, arguments).await;
    let expected = json!({"data": {"s": {"name": "Kedai"}, "blog": {"posts": {"items": [{"_title": "Tea 2"}]}}}});
    assert_eq!(answered["result"], expected, "{answered}");
    let other = outcome(&client, json!({"query": query, "operation_name": "B"})).await;
    assert_eq!(other["result"], json!({"data": {"site": {"name": "Kedai"}}}));
}

#[tokio::test]
async fn arguments_are_held_to_the_schema() {
    let app = TestApp::start().await;
    let client = app.admin();
    let blocks = |member: &str, value: Value| {
        let mut blocks = json!({"list": "a"});
        blocks[member] = value;
        json!({"blocks": blocks})
    };
    let search = |term: &str| json!({"search": {"list": "a", "term": term}});
    let query = |length: usize| json!({"query": format!("{{a{}}}", "a".repeat(length - 3))});
    for (number, (good, bad)) in [
        (blocks("first", json!(1)), blocks("first", json!(0))),
        (blocks("first", json!(100)), blocks("first", json!(101))),
        (blocks("skip", json!(100_000)), blocks("skip", json!(100_001))),
        (blocks("fields", json!(["a"])), blocks("fields", json!([]))),
        (blocks("fields", json!(vec!["a"; 50])), blocks("fields", json!(vec!["a"; 51]))),
        (blocks("fields", json!(["a.b"])), blocks("fields", json!(["a { b }"]))),
        (blocks("list", json!("a.b.c.d.e.f.g.h")), blocks("list", json!("a.b.c.d.e.f.g.h.i"))),
        (blocks("list", json!("a".repeat(100))), blocks("list", json!("a".repeat(101)))),
        (blocks("list", json!("_a9")), blocks("list", json!("9a"))),
        (blocks("order_by", json!("a__ASC")), blocks("order_by", json!("a) { b }"))),
        (search("t"), search("")),
        (search(&"t".repeat(200)), search(&"t".repeat(201))),
        (query(20_000), query(20_001)),
        (json!({"query": "{a}"}), json!({})),
        (json!({"query": "{a}", "variables": {}}), json!({"blocks": {"list": "a"}, "variables": {}})),
        (json!({"search": {"list": "a", "term": "t"}}), json!({"search": {"list": "a", "term": "t"}, "query": "{a}"})),
    ]
    .into_iter()
    .enumerate()
    {
        // Nothing is set up, which is only found out behind the schema.
        let body = |arguments: &Value| json!({"tool": "basehub.query", "arguments": arguments});
        let outcome = client.call_and_wait(&format!("good-{number}"), &body(&good)).await.json();
        assert_eq!(outcome["error"]["type"], "urn:toolgate:tool:not-configured", "{good}: {outcome}");
        let refused = client.call(&format!("bad-{number}"), &body(&bad)).await;
        assert_eq!(refused.status, 400, "{bad}: {}", refused.text());
    }
}
