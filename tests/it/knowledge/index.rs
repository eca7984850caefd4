//! The index that searches read under row-level security (docs/adr/0008-full-text-under-row-level-security.md)

use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, Row};
use toolgate::migrations;

use super::{insert_documents, reader_looking_for};
use crate::app::{Client, Stack, TableOwner, Tenant, TestApp, wait_until};

const FOUND: &str = "select document_id from knowledge_index order by position";

async fn found(reader: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(FOUND).fetch_all(reader).await.unwrap()
}

async fn plan(reader: &mut PgConnection, explain: &str) -> String {
    let lines = reader.fetch_all(format!("explain ({explain}) {FOUND}").as_str()).await.unwrap();
    lines.iter().map(|line| line.get::<String, _>(0) + "\n").collect()
}

#[tokio::test]
async fn a_search_reads_the_index_and_not_the_rows_of_the_tenant() {
    let stack = Stack::new().await;
    let (tenant, other) = (Tenant::new(), Tenant::new());
    // Of 3,000 documents 30 hold the word; all of the other tenant's do.
    insert_documents(&stack, tenant, 3_000, "case when n % 100 = 0 then 'a refund' else 'a delivery' end").await;
    insert_documents(&stack, other, 3_000, "'a refund'").await;
    let mut reader = reader_looking_for(&stack, tenant, "refund").await;
    reader.execute("set plan_cache_mode = force_generic_plan").await.unwrap();
    let text = plan(&mut reader, "analyze, buffers off, timing off, costs off").await;
    let scan = text.lines().position(|line| line.contains("Bitmap Index Scan on knowledge_index_words")).expect(&text);
    let (rows, condition) = (text.lines().nth(scan).unwrap(), text.lines().nth(scan + 1).unwrap());
    assert!(condition.contains("search_vector @@"), "{text}");
    // Not even the index tells of what the other tenant has.
    assert!(rows.contains("rows=30 ") || rows.contains("rows=30.00 "), "{text}");
    assert_eq!(found(&mut reader).await.len(), 30);
}

#[tokio::test]
async fn what_is_looked_for_can_only_narrow_what_a_tenant_sees() {
    let stack = Stack::new().await;
    let (tenant, other) = (Tenant::new(), Tenant::new());
    insert_documents(&stack, tenant, 1, "'a refund'").await;
    insert_documents(&stack, other, 2, "'a secret'").await;
    let everything_of_others = [
        "secret".to_owned(),
        "refund | secret".to_owned(),
        "!nothing".to_owned(),
        format!("'\u{1}{}'", other.0),
        format!("'\u{1}{}' | secret", other.0),
        "!refund".to_owned(),
        String::new(),
    ];
    for query in &everything_of_others {
        let seen = found(&mut reader_looking_for(&stack, tenant, query).await).await;
        let own = if query.contains("refund |") || query == "!nothing" { &["d1"][..] } else { &[] };
        assert_eq!(seen, own, "{query:?}");
        // Whoever has no tenant sees nothing, and whoever says nothing either.
        let mut nobody = stack.connect(TableOwner::Reader).await;
        nobody.execute("begin").await.unwrap();
        sqlx::query("select set_config('app.search_query', $1, true)").bind(query).execute(&mut nobody).await.unwrap();
        assert!(found(&mut nobody).await.is_empty(), "{query:?} without a tenant");
    }
    let mut reader = reader_looking_for(&stack, other, "secret").await;
    assert_eq!(found(&mut reader).await, ["d1", "d2"]);
    reader.execute("commit").await.unwrap();
    assert!(found(&mut reader).await.is_empty(), "the setting outlived its transaction");
}

/// Leaves the database as the release before the index had it.
const BEFORE: &str = "
    drop trigger knowledge_document_index on knowledge_document;
    drop function index_knowledge_document();
    drop table knowledge_index;
    drop index knowledge_document_config;
    drop index knowledge_document_newest;
    alter table knowledge_document drop column source;
    delete from _sqlx_migrations where version = 8;";

#[tokio::test]
async fn documents_that_were_projected_before_there_was_an_index_are_in_it() {
    let stack = Stack::new().await;
    stack.connect(TableOwner::Superuser).await.execute(BEFORE).await.unwrap();
    let tenant = Tenant::new();
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    superuser.execute("create table knowledge_index ()").await.unwrap();
    insert_documents(&stack, tenant, 3, "'a refund'").await;
    superuser.execute("drop table knowledge_index").await.unwrap();
    migrations::migrate(&stack.connections.owner).await.unwrap();
    assert_eq!(found(&mut reader_looking_for(&stack, tenant, "refund").await).await, ["d1", "d2", "d3"]);
    // The owner, who filled it, is an owner like before: it sees no row of anybody.
    let rows: i64 = sqlx::query_scalar("select count(*) from knowledge_document")
        .fetch_one(&mut stack.connect(TableOwner::Owner).await)
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

async fn hits(client: &Client) -> Value {
    client.result_of("knowledge.search", json!({"query": "refund"})).await["hits"].clone()
}

#[tokio::test]
async fn projecting_again_changes_nothing_and_brings_back_what_was_lost() {
    let mut app = TestApp::start().await;
    let client = app.admin();
    for (id, content) in [("a", "a refund"), ("b", "a refund"), ("a", "a delivery"), ("a", "the last refund")] {
        client.result_of("knowledge.upsert", json!({"document_id": id, "title": id, "content": content})).await;
    }
    let before = hits(&client).await;
    assert_eq!(before.as_array().unwrap().len(), 2);
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    // What is append-only for everybody else.
    superuser.execute("set session_replication_role = replica").await.unwrap();
    for lost in ["", "truncate tool_call, audit_event, parked_event cascade;"] {
        app.stop().await;
        let again = format!("{lost} update projection_checkpoint set stream_sequence = 0, event_id = null");
        superuser.execute(again.as_str()).await.unwrap();
        app.start_again().await;
        let client = app.client(client.tenant, "admin");
        wait_until("all is projected again", async || hits(&client).await == before).await;
        assert_eq!(app.stack.count("select count(*) from knowledge_index").await, 2, "{lost:?}");
    }
}
