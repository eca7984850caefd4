//! `knowledge.search`, `knowledge.get` and `knowledge.upsert`

use serde_json::{Value, json};
use toolgate_events::tools::MAX_RANKED;

use super::insert_documents;
use crate::app::{Client, Tenant, TestApp};

async fn upsert(client: &Client, id: &str, members: Value) {
    let mut arguments = json!({"document_id": id, "title": id, "content": "a refund", "locale": "en"});
    arguments.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    client.result_of("knowledge.upsert", arguments).await;
}

async fn search(client: &Client, arguments: Value) -> Value {
    client.result_of("knowledge.search", arguments).await
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["document_id"].as_str().unwrap()).collect()
}

/// The outcome of a call, failed or not.
async fn outcome(client: &Client, key: &str, tool: &str, arguments: Value) -> Value {
    client.call_and_wait(key, &json!({"tool": tool, "arguments": arguments})).await.json()
}

#[tokio::test]
async fn phrases_exclusions_and_alternatives_are_understood() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "a", json!({"content": "The late delivery of parcels"})).await;
    upsert(&client, "b", json!({"content": "Parcels: delivery may be late"})).await;
    upsert(&client, "c", json!({"content": "An invoice"})).await;
    for (query, expected) in [
        ("parcel", &["a", "b"][..]),
        ("deliveries", &["a", "b"]),
        ("\"late delivery\"", &["a"]),
        ("parcel -\"late delivery\"", &["b"]),
        ("\"late delivery\" or invoices", &["a", "c"]),
        ("parcels invoice", &[]),
        ("-parcel", &["c"]),
        ("the", &[]),
    ] {
        let answer = search(&client, json!({"query": query})).await;
        let mut found = ids(&answer);
        found.sort_unstable();
        assert_eq!(found, expected, "{query}");
        assert_eq!((&answer["is_complete"], &answer["next_cursor"]), (&json!(true), &Value::Null));
    }
    // The title weighs more, and equal documents come in the order of their names.
    for id in ["z", "y"] {
        upsert(&client, id, json!({"title": "Invoices", "content": "Other words"})).await;
    }
    assert_eq!(ids(&search(&client, json!({"query": "invoice"})).await), ["y", "z", "c"]);
}

#[tokio::test]
async fn a_document_marks_nothing_itself() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "a", json!({"content": "\u{e000}free\u{e001} refund"})).await;
    let hit = &search(&client, json!({"query": "refund"})).await["hits"][0];
    assert_eq!(hit["highlight"], "free <mark>refund</mark>", "{hit}");
}

#[tokio::test]
async fn filters_narrow_what_is_found() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "en", json!({"locale": "en"})).await;
    upsert(&client, "gb", json!({"locale": "en-GB", "metadata": {"team": "a", "tags": ["x", "y"]}})).await;
    upsert(&client, "odd", json!({"locale": "en_'\\", "metadata": {"team": "b"}})).await;
    let between = client.result_of("knowledge.get", json!({"document_id": "odd"})).await["updated_at"].clone();
    upsert(&client, "eng", json!({"locale": "eng"})).await;
    for (filters, expected) in [
        (json!({}), &["en", "eng", "gb", "odd"][..]),
        (json!({"locale": "en"}), &["en", "gb"]),
        (json!({"locale": "EN-gb"}), &["gb"]),
        (json!({"locale": "en-G"}), &[]),
        (json!({"locale": "en_'\\"}), &["odd"]),
        (json!({"locale": "e%"}), &[]),
        (json!({"metadata": {"tags": ["y"]}}), &["gb"]),
        (json!({"metadata": {"team": "a", "tags": ["z"]}}), &[]),
        (json!({"metadata": {}}), &["en", "eng", "gb", "odd"]),
        (json!({"document_ids": ["odd", "en", "nothing"]}), &["en", "odd"]),
        (json!({"updated_after": between}), &["eng"]),
        (json!({"updated_after": between, "locale": "en"}), &[]),
    ] {
        let answer = search(&client, json!({"query": "refund", "filters": filters})).await;
        let mut found = ids(&answer);
        found.sort_unstable();
        assert_eq!(found, expected, "{filters}");
    }
}

#[tokio::test]
async fn pages_have_no_gap_and_no_duplicate_and_show_what_the_first_one_did() {
    let app = TestApp::start().await;
    let client = app.admin();
    for number in 0..23 {
        upsert(&client, &format!("d{number:02}"), json!({"content": "refund ".repeat(1 + number % 4)})).await;
    }
    let all = search(&client, json!({"query": "refund", "top_k": 100})).await;
    let mut paged = Vec::new();
    let mut arguments = json!({"query": "refund", "top_k": 7});
    loop {
        let page = search(&client, arguments.clone()).await;
        paged.extend(page["hits"].as_array().unwrap().clone());
        // Meanwhile somebody writes what would be the best hit.
        upsert(&client, "new", json!({"title": "Refund", "content": "refund ".repeat(paged.len())})).await;
        if page["next_cursor"].is_null() {
            break;
        }
        arguments["cursor"] = page["next_cursor"].clone();
    }
    assert_eq!(json!(paged), all["hits"]);

    let first = search(&client, json!({"query": "refund", "top_k": 7})).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    // A document that is replaced leaves the pages still to come.
    let next = ids(&all)[8].to_owned();
    upsert(&client, &next, json!({"content": "refund refund"})).await;
    let second = search(&client, json!({"query": "refund", "cursor": cursor, "top_k": 100})).await;
    assert!(!ids(&second).contains(&next.as_str()) && !ids(&second).is_empty());

    let strange = [
        json!({"query": "refunds", "cursor": cursor}),
        json!({"query": "refund", "cursor": cursor, "filters": {"locale": "en"}}),
        json!({"query": "refund", "cursor": "x"}),
        json!({"query": "refund", "cursor": format!("{cursor}A")}),
    ];
    for (number, arguments) in strange.into_iter().enumerate() {
        let failed = outcome(&client, &format!("c{number}"), "knowledge.search", arguments).await;
        assert_eq!(failed["error"]["type"], "urn:toolgate:tool:invalid-arguments", "{failed}");
    }
    // Another tenant may try it: it is a place among its own hits.
    let stranger = search(&app.admin(), json!({"query": "refund", "cursor": cursor})).await;
    assert_eq!(stranger["hits"], json!([]));
}

#[tokio::test]
async fn of_too_many_matches_those_with_the_words_in_the_title_and_the_newest_are_ranked() {
    let app = TestApp::start().await;
    let most = i32::try_from(MAX_RANKED).unwrap();
    for (count, is_complete) in [(most - 1, true), (most, true), (most + 1, false), (9 * most, false)] {
        let tenant = Tenant::new();
        // In the title of the oldest document only; far beyond the newest thousands the last time.
        insert_documents(&app.stack, tenant, count, "'number of a refund'").await;
        let client = app.client(tenant, "admin");
        let mut arguments = json!({"query": "number 1", "top_k": 100});
        assert_eq!(ids(&search(&client, arguments.clone()).await), ["d1"], "of {count}");
        arguments["query"] = json!("refund");
        let mut seen = Vec::new();
        loop {
            let page = search(&client, arguments.clone()).await;
            assert_eq!(page["is_complete"], json!(is_complete), "{count}");
            seen.extend(ids(&page).into_iter().map(|id| id[1..].parse::<i32>().unwrap()));
            if page["next_cursor"].is_null() {
                break;
            }
            arguments["cursor"] = page["next_cursor"].clone();
        }
        seen.sort_unstable();
        let oldest = (count - most).max(0) + 1;
        assert!(seen.into_iter().eq(oldest..=count), "{count}");
        let title = search(&client, json!({"query": "number", "top_k": 1})).await;
        assert_eq!(title["is_complete"], json!(is_complete));
    }
    let tenant = Tenant::new();
    insert_documents(&app.stack, tenant, 2 * most, "case n when 3 then 'the word' else 'a word of many' end").await;
    let superuser = "update knowledge_document set title = 'Word' where document_id = 'd3'";
    sqlx::Executor::execute(&mut app.stack.connect(crate::app::TableOwner::Superuser).await, superuser).await.unwrap();
    let best = search(&app.client(tenant, "admin"), json!({"query": "word", "top_k": 1})).await;
    assert_eq!((ids(&best), &best["is_complete"]), (vec!["d3"], &json!(false)), "the oldest but one, for its title");
}

#[tokio::test]
async fn a_hit_and_a_document_say_where_they_are_from() {
    let app = TestApp::start().await;
    let client = app.admin();
    upsert(&client, "a", json!({"source": "https://example.com/a", "metadata": {"source": "b"}})).await;
    upsert(&client, "b", json!({"metadata": {"source": "urn:isbn:1"}})).await;
    upsert(&client, "c", json!({"content": "héllo\u{1f600} world"})).await;
    let whole = client.result_of("knowledge.get", json!({"document_id": "a"})).await;
    let hit = search(&client, json!({"query": "refund"})).await["hits"][0].clone();
    for member in ["document_id", "title", "locale", "source", "updated_at", "position", "content_sha256"] {
        assert_eq!(hit[member], whole[member], "{member}");
    }
    assert_eq!(whole["source"], "https://example.com/a");
    // printf 'a refund' | sha256sum
    assert_eq!(whole["content_sha256"], "2a8eb2e60de257b90d46f50f7da9f20b678183617221a1ea79d315516c7d23ef");
    assert_eq!(client.result_of("knowledge.get", json!({"document_id": "b"})).await["source"], "urn:isbn:1");
    // The same again is a new version of the same.
    upsert(&client, "a", json!({"source": "https://example.com/a", "metadata": {"source": "b"}})).await;
    let again = client.result_of("knowledge.get", json!({"document_id": "a"})).await;
    assert_eq!((&again["content"], &again["content_sha256"]), (&whole["content"], &whole["content_sha256"]));

    let part = async |offset: Option<u32>, max_characters: Option<u32>| {
        let mut arguments = json!({"document_id": "c"});
        for (name, value) in [("offset", offset), ("max_characters", max_characters)] {
            arguments.as_object_mut().unwrap().extend(value.map(|value| (name.to_owned(), json!(value))));
        }
        let part = client.result_of("knowledge.get", arguments).await;
        assert_eq!(part["characters"], 12);
        (part["content"].as_str().unwrap().to_owned(), part["next_offset"].as_u64())
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(part(None, None).await, (text("héllo\u{1f600} world"), None));
    assert_eq!(part(None, Some(6)).await, (text("héllo\u{1f600}"), Some(6)));
    assert_eq!(part(Some(6), Some(5)).await, (text(" worl"), Some(11)));
    assert_eq!(part(Some(6), Some(6)).await, (text(" world"), None));
    assert_eq!(part(Some(6), Some(7)).await, (text(" world"), None));
    assert_eq!(part(Some(1_000_000), Some(1_000_000)).await, (text(""), None));
    let missing = outcome(&client, "g", "knowledge.get", json!({"document_id": "nothing"})).await;
    assert_eq!(missing["error"]["type"], "urn:toolgate:tool:not-found");
}

#[tokio::test]
async fn every_member_is_bounded() {
    let app = TestApp::start().await;
    let client = app.admin();
    let upsert = |member: &str, value: Value| {
        let mut arguments = json!({"document_id": "d", "title": "T", "content": "C"});
        arguments[member] = value;
        ("knowledge.upsert", arguments)
    };
    let search = |member: &str, value: Value| {
        let mut arguments = json!({"query": "q"});
        arguments[member] = value;
        ("knowledge.search", arguments)
    };
    let text = |length: usize| json!("x".repeat(length));
    let members = |count: usize| (0..count).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>();
    type Arguments<'a> = Box<dyn Fn(usize) -> (&'static str, Value) + 'a>;
    let cases: Vec<(usize, Arguments<'_>)> = vec![
        (255, Box::new(|n| upsert("document_id", text(n)))),
        (500, Box::new(|n| upsert("title", text(n)))),
        (35, Box::new(|n| upsert("locale", text(n)))),
        (2_000, Box::new(|n| upsert("source", json!(format!("a:{}", "x".repeat(n - 2)))))),
        (100, Box::new(|n| upsert("metadata", Value::Object(members(n))))),
        (1_000, Box::new(|n| search("query", text(n)))),
        (100, Box::new(|n| search("top_k", json!(n)))),
        (100, Box::new(|n| search("filters", json!({"document_ids": vec!["d"; n]})))),
    ];
    for (case, (limit, arguments)) in cases.iter().enumerate() {
        for n in [limit - 1, *limit, limit + 1] {
            let (tool, arguments) = arguments(n);
            let answer = client.call_and_wait(&format!("{case}-{n}"), &json!({"tool": tool, "arguments": arguments})).await;
            let expected = if n > *limit { 400 } else { 200 };
            assert_eq!(answer.status, expected, "case {case}, {n}: {}", answer.text());
        }
    }
    for source in ["no uri", "/path", "https://a b", ":x", "a:", "1a:b", "a:\u{e9}"] {
        let (tool, arguments) = upsert("source", json!(source));
        let answer = client.call("s", &json!({"tool": tool, "arguments": arguments})).await;
        assert_eq!(answer.status, 400, "{source}");
    }
    let deep = (0..9).fold(json!(1), |inner, _| json!({"a": inner}));
    let failed = outcome(&client, "deep", "knowledge.upsert", upsert("metadata", deep).1).await;
    assert_eq!(failed["error"]["detail"], "metadata has more than 8 levels");
}
