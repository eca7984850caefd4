//! `GET /v1/documents`, and the knowledge base that `knowledge.search` reads

use serde_json::{Value, json};

use crate::app::{Client, TestApp};

#[tokio::test]
async fn a_rendered_document_is_listed() {
    let app = TestApp::start().await;
    let client = app.admin();
    let result = client.result_of("document.render", json!({"title": "Report", "markdown": "# Hi", "format": "html"})).await;
    let page = client.get("/v1/documents").await.json();
    let document = &page["items"][0];
    assert_eq!(document["title"], "Report");
    for member in ["artifact_id", "sha256", "content_type"] {
        assert_eq!(document[member], result[member], "{member}");
    }
}

async fn upsert(client: &Client, id: &str, locale: Option<&str>, content: &str, metadata: Value) {
    let arguments = json!({"document_id": id, "title": id, "content": content, "locale": locale, "metadata": metadata});
    let arguments = arguments.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    client.result_of("knowledge.upsert", Value::Object(arguments.map(|(k, v)| (k.clone(), v.clone())).collect())).await;
}

async fn search(client: &Client, arguments: Value) -> Vec<Value> {
    client.result_of("knowledge.search", arguments).await["hits"].as_array().unwrap().clone()
}

fn ids(hits: &[Value]) -> Vec<&str> {
    hits.iter().map(|hit| hit["document_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_document_is_found_by_the_words_of_its_own_language() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "en", Some("en"), "We refunded the customers who were waiting.", json!({"kind": "faq"})).await;
    upsert(&client, "id", Some("id-ID"), "Pembayaran dikembalikan dalam empat belas hari.", json!({"kind": "faq", "team": "a"}))
        .await;
    upsert(&client, "none", None, "refunding", json!({})).await;
    // English: another form of the word, found by its stem. Without a language only the word itself is found.
    assert_eq!(ids(&search(&client, json!({"query": "refund"})).await), ["en"]);
    assert_eq!(ids(&search(&client, json!({"query": "customer waits"})).await), ["en"]);
    assert_eq!(ids(&search(&client, json!({"query": "refunding", "filters": {"metadata": {"kind": "faq"}}})).await), ["en"]);
    // Indonesian: `pembayaran`, `membayar` and `bayar` share a stem.
    assert_eq!(ids(&search(&client, json!({"query": "bayar"})).await), ["id"]);
    assert_eq!(ids(&search(&client, json!({"query": "membayar"})).await), ["id"]);

    assert_eq!(ids(&search(&client, json!({"query": "bayar", "filters": {"locale": "id"}})).await), ["id"]);
    assert!(search(&client, json!({"query": "bayar", "filters": {"locale": "en"}})).await.is_empty());
    assert_eq!(ids(&search(&client, json!({"query": "bayar", "filters": {"metadata": {"team": "a"}}})).await), ["id"]);
    assert!(search(&client, json!({"query": "bayar", "filters": {"metadata": {"team": "b"}}})).await.is_empty());
    // Query syntax of the caller's choice is never an error.
    for query in ["'", "!!!", "a:*&|(", "\"open", "-x", "<->"] {
        search(&client, json!({"query": query})).await;
    }
}

#[tokio::test]
async fn hits_are_ranked_bounded_and_marked_without_markup_of_their_own() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "best", Some("en"), "refund refund refund", json!({})).await;
    upsert(&client, "evil", Some("en"), "<img src=x onerror=alert(1)> 1 < 2 refund & 'quoted' <mark>x</mark>", json!({})).await;
    upsert(&client, "other", Some("en"), "one refund among a great many other words", json!({})).await;
    let hits = search(&client, json!({"query": "refund"})).await;
    assert_eq!(hits.len(), 3);
    assert_eq!(hits[0]["document_id"], "best");
    let scores: Vec<_> = hits.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(ids(&search(&client, json!({"query": "refund", "top_k": 1})).await), ["best"]);
    let evil = hits.iter().find(|hit| hit["document_id"] == "evil").unwrap()["highlight"].as_str().unwrap();
    assert!(evil.contains("<mark>refund</mark>"), "{evil}");
    assert_eq!(evil.matches('<').count(), 2, "only our own mark: {evil}");
    assert!(evil.contains("1 &lt; 2 <mark>refund</mark> &amp; &#39;quoted"), "{evil}");
}

#[tokio::test]
async fn an_upsert_replaces_the_document_of_that_name() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "d", Some("en"), "first", json!({})).await;
    upsert(&client, "d", Some("en"), "second", json!({})).await;
    assert!(search(&client, json!({"query": "first"})).await.is_empty());
    assert_eq!(ids(&search(&client, json!({"query": "second"})).await), ["d"]);
    assert_eq!(app.stack.count("select count(*) from knowledge_document").await, 1);
}
