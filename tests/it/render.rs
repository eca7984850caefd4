//! Documents and the templates they are made from.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use sqlx::Executor;

use crate::app::{Answer, Client, TableOwner, TestApp};

async fn download(client: &Client, result: &Value) -> Answer {
    client.get(&format!("/v1/artifacts/{}", result["artifact_id"].as_str().unwrap())).await
}

/// How a call ended that cannot succeed.
async fn failure(client: &Client, key: &str, tool: &str, arguments: Value) -> Value {
    let call = client.call_and_wait(key, &json!({"tool": tool, "arguments": arguments})).await.json();
    assert_eq!(call["status"], "failed", "{call}");
    call["error"].clone()
}

async fn upsert(client: &Client, markdown: &str) -> Value {
    client.result_of("template.upsert", json!({"template_id": "letter", "markdown": markdown})).await
}

async fn version(client: &Client, version: Option<u32>) -> Value {
    let mut arguments = json!({"template_id": "letter"});
    if let Some(version) = version {
        arguments["version"] = json!(version);
    }
    client.result_of("template.get", arguments).await
}

#[tokio::test]
async fn a_pdf_has_the_form_of_one_and_the_same_bytes_for_every_call() {
    let app = TestApp::start().await;
    let client = app.admin();
    let arguments = json!({"title": "Laporan", "markdown": "Halo *{{ name }}*", "data": {"name": "Ådä"}, "format": "pdf"});
    let result = client.result_of("document.render", arguments.clone()).await;
    assert_eq!(result["content_type"], "application/pdf");
    assert_eq!(result["pages"], 1);
    let artifact = download(&client, &result).await;
    assert_eq!(artifact.header("content-type"), "application/pdf");
    assert!(artifact.header("content-disposition").ends_with("Laporan.pdf\""));
    assert!(artifact.body.starts_with(b"%PDF-1.7") && artifact.body.trim_ascii_end().ends_with(b"%%EOF"));
    assert_eq!(result["size"], artifact.body.len());

    let again = client.result_of("document.render", arguments).await;
    assert_eq!(again["sha256"], result["sha256"]);
    assert_ne!(again["artifact_id"], result["artifact_id"], "every call has a document of its own");
    assert_eq!(app.admin().get(&format!("/v1/artifacts/{}", result["artifact_id"].as_str().unwrap())).await.status, 404);
}

#[tokio::test]
async fn a_document_comes_from_markdown_or_from_a_template() {
    let app = TestApp::start().await;
    let client = app.admin();
    for (number, arguments) in [
        json!({"title": "T", "format": "pdf"}),
        json!({"title": "T", "markdown": "x", "template_id": "letter", "format": "pdf"}),
        json!({"title": "T", "markdown": null, "format": "pdf"}),
        json!({"title": "T", "markdown": "x", "template_version": 1, "format": "pdf"}),
        json!({"title": "T", "template_id": "letter", "template_version": 0, "format": "pdf"}),
        json!({"title": "T", "markdown": "x", "format": "docx"}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.call(&format!("k{number}"), &json!({"tool": "document.render", "arguments": arguments})).await;
        answer.problem(400, "invalid");
    }
}

#[tokio::test]
async fn the_language_of_the_call_is_the_documents() {
    let app = TestApp::start().await;
    let client = app.admin();
    let arguments = json!({"title": "T", "markdown": "\"Ja\"", "format": "html"});
    let body = json!({"tool": "document.render", "arguments": arguments, "options": {"locale": "de-CH"}});
    let call = client.call_and_wait("html", &body).await.json();
    client.get_projected(&call).await;
    assert!(download(&client, &call["result"]).await.text().contains("<html lang=\"de-CH\">"));

    let mut sha256 = BTreeSet::new();
    for locale in ["de-DE", "de-CH", "en-GB"] {
        let arguments = json!({"title": "T", "markdown": "\"Ja\"", "format": "pdf"});
        let body = json!({"tool": "document.render", "arguments": arguments, "options": {"locale": locale}});
        let call = client.call_and_wait(locale, &body).await.json();
        assert!(sha256.insert(call["result"]["sha256"].as_str().unwrap().to_owned()), "{locale}: other quotation marks");
    }
}

#[tokio::test]
async fn every_version_of_a_template_stays_and_a_document_says_which_one_it_is_from() {
    let app = TestApp::start().await;
    let client = app.admin();
    let first = upsert(&client, "First {{ name }}").await;
    let second = upsert(&client, "Second {{ name }}").await;
    upsert(&client, "Second {{ name }}").await;
    assert_eq!(version(&client, None).await["version"], 2, "the same again is no new version");
    assert_eq!(version(&client, Some(1)).await["markdown"], "First {{ name }}");
    upsert(&client, "First {{ name }}").await;
    let third = version(&client, None).await;
    assert_eq!((&third["version"], &third["sha256"]), (&json!(3), &first["sha256"]), "what was once is new again");

    let render = async |version: Option<u32>| {
        let mut arguments = json!({"title": "T", "template_id": "letter", "data": {"name": "Ada"}, "format": "html"});
        if let Some(version) = version {
            arguments["template_version"] = json!(version);
        }
        let result = client.result_of("document.render", arguments).await;
        let text = download(&client, &result).await.text();
        (result["template_version"].clone(), result["template_sha256"].clone(), text)
    };
    let (number, sha256, text) = render(None).await;
    assert_eq!((number, &sha256), (json!(3), &first["sha256"]));
    assert!(text.contains("First Ada"), "{text}");
    let (number, sha256, text) = render(Some(2)).await;
    assert_eq!((number, &sha256), (json!(2), &second["sha256"]));
    assert!(text.contains("Second Ada"), "{text}");

    let arguments = json!({"title": "T", "template_id": "letter", "template_version": 4, "data": {}, "format": "html"});
    assert_eq!(failure(&client, "k", "document.render", arguments).await["type"], "urn:toolgate:tool:not-found");
    // Nothing to fill it with: a template it is all the same.
    let arguments = json!({"title": "T", "template_id": "letter", "format": "pdf"});
    assert_eq!(failure(&client, "l", "document.render", arguments).await["type"], "urn:toolgate:tool:invalid-arguments");
}

#[tokio::test]
async fn a_description_belongs_to_its_version() {
    let app = TestApp::start().await;
    let client = app.admin();
    let described = json!({"template_id": "letter", "markdown": "x", "description": "For customers"});
    client.result_of("template.upsert", described.clone()).await;
    client.result_of("template.upsert", described).await;
    assert_eq!(version(&client, None).await["description"], "For customers");
    upsert(&client, "x").await;
    let last = version(&client, None).await;
    assert_eq!((&last["version"], last.get("description")), (&json!(2), None));
}

#[tokio::test]
async fn another_tenants_templates_do_not_exist() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.admin(), app.admin());
    upsert(&owner, "secret").await;
    upsert(&owner, "secret, too").await;
    let unknown = failure(&stranger, "k", "template.get", json!({"template_id": "no such"})).await;
    let arguments = json!({"template_id": "letter"});
    assert_eq!(failure(&stranger, "l", "template.get", arguments).await, unknown);
    let arguments = json!({"title": "T", "template_id": "letter", "format": "html"});
    assert_eq!(failure(&stranger, "m", "document.render", arguments).await, unknown);
    upsert(&stranger, "mine").await;
    assert_eq!(version(&stranger, None).await["version"], 1);
    assert_eq!(version(&owner, None).await["markdown"], "secret, too");
}

#[tokio::test]
async fn versions_have_no_gaps_whoever_upserts_at_once_and_however_often_they_are_projected() {
    let mut app = TestApp::start().await;
    let client = app.admin();
    let client = &client;
    let upserts = (0..20).map(|number| async move { upsert(client, &format!("version {number}")).await });
    stream::iter(upserts).buffer_unordered(20).collect::<Vec<_>>().await;
    // Two outcomes that say the same, not one after the other, may be two versions; all are different here.
    let rows = "select string_agg(version || ':' || sha256, ',' order by position) from template_version";
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let before: String = sqlx::query_scalar(rows).fetch_one(&mut superuser).await.unwrap();
    let numbers: Vec<_> = before.split(',').map(|row| row.split(':').next().unwrap().parse::<u32>().unwrap()).collect();
    assert_eq!(numbers, Vec::from_iter(1..=20));

    app.stop().await;
    // As if nothing had been projected, but for the templates.
    superuser.execute("set session_replication_role = replica").await.unwrap();
    superuser.execute("delete from projection_checkpoint; delete from audit_event").await.unwrap();
    app.start_again().await;
    let client = client.at(app.url());
    upsert(&client, "the last").await;
    let after: String = sqlx::query_scalar(rows).fetch_one(&mut superuser).await.unwrap();
    assert_eq!(after.strip_prefix(&before).map(|new| new.starts_with(",21:")), Some(true), "{after}");
}

#[tokio::test]
async fn what_no_document_can_be_made_of_is_refused_in_words() {
    let app = TestApp::start().await;
    let client = app.admin();
    let template = json!({"template_id": "letter", "markdown": "{% for %}"});
    let error = failure(&client, "a", "template.upsert", template).await;
    assert_eq!(error["type"], "urn:toolgate:tool:invalid-arguments");
    assert!(error["detail"].as_str().unwrap().contains("template is not valid"), "{error}");
    assert_eq!(app.stack.count("select count(*) from template_version").await, 0);

    let runaway = "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}";
    let doubling = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    for (key, markdown, words) in [
        ("deep", format!("{}x", "> ".repeat(10_000)), "levels"),
        ("wide", format!("|{}\n|{}\n", "a|".repeat(65), "-|".repeat(65)), "columns"),
        ("runaway", runaway.to_owned(), "template cannot be filled in"),
        ("doubling", doubling.to_owned(), "template cannot be filled in"),
    ] {
        for format in ["html", "pdf"] {
            let arguments = json!({"title": "T", "markdown": markdown, "data": {}, "format": format});
            let error = failure(&client, &format!("{key} {format}"), "document.render", arguments).await;
            assert_eq!(error["type"], "urn:toolgate:tool:invalid-arguments");
            assert!(error["detail"].as_str().unwrap().contains(words), "{error}");
        }
    }
    let arguments = json!({"title": "T", "markdown": "still here", "format": "pdf"});
    client.result_of("document.render", arguments).await;
}

#[tokio::test]
async fn a_pdf_that_takes_longer_than_the_caller_allows_is_failed_and_leaves_room_for_the_next() {
    let app = TestApp::start().await;
    let client = app.admin();
    let markdown = "some words\n\n".repeat(10_000);
    let arguments = json!({"title": "T", "markdown": markdown, "format": "pdf"});
    for number in 0..4 {
        let body = json!({"tool": "document.render", "arguments": arguments, "options": {"timeout_ms": 100}});
        let call = client.call_and_wait(&format!("k{number}"), &body).await.json();
        assert_eq!(call["error"]["type"], "urn:toolgate:tool:timeout", "{call}");
    }
    client.result_of("document.render", json!({"title": "T", "markdown": "small", "format": "pdf"})).await;
}
