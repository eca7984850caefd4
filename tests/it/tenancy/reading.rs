//! Another tenant's things, asked for over HTTP and in SQL.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Executor, Row};
use uuid::Uuid;

use super::catalogue::tenant_tables;
use crate::{
    app::{Answer, Client, TableOwner, TestApp, send},
    census::table::{Furniture, ROUTES, Route, Sight},
};

/// A refusal without what differs between any two requests.
fn without_trace(answer: &Answer) -> (u16, Value) {
    let mut problem = answer.json();
    problem.as_object_mut().unwrap().remove("trace_id").unwrap();
    (answer.status, problem)
}

fn names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    names
}

async fn ask(client: &Client, route: &Route, furniture: &Furniture) -> Answer {
    let mut request = client.request(Method::from_bytes(route.verb.as_bytes()).unwrap(), &furniture.fill(route.path));
    if let Some(body) = route.body {
        request = request.header("idempotency-key", "k").json(&body());
    }
    send(request).await
}

/// Every route of the census, by what a stranger may see there.
#[tokio::test]
async fn on_no_route_does_a_stranger_see_what_another_tenant_has() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.admin(), app.admin());
    let furniture = Furniture::make(&owner).await;
    for route in ROUTES {
        let path = route.path;
        match route.sight {
            Sight::One => {
                assert_ne!(ask(&owner, route, &furniture).await.status, 404, "{path} must exist, or this proves nothing");
                let theirs = ask(&stranger, route, &furniture).await;
                let nothing = ask(&stranger, route, &Furniture::of_nobody()).await;
                theirs.problem(404, "not-found");
                assert_eq!(without_trace(&theirs), without_trace(&nothing), "{path}");
                assert_eq!(names(&theirs), names(&nothing), "{path}");
            }
            Sight::List => {
                assert!(!owner.get(path).await.json()["items"].as_array().unwrap().is_empty(), "{path}");
                assert_eq!(stranger.get(path).await.json(), json!({"items": [], "next_cursor": null}), "{path}");
            }
            Sight::Lines => {
                assert_ne!(owner.get(path).await.text(), "", "{path}");
                assert_eq!(stranger.get(path).await.text(), "", "{path}");
            }
            Sight::Events => {
                let path = furniture.fill(path);
                let mut events = owner.stream(&format!("{path}?after=0"), None).await;
                assert_eq!(events.event().await.unwrap().json()["tenantid"], json!(owner.tenant.0), "{path}");
                // For the stranger there is no such position.
                let mut beyond = stranger.stream(&format!("{path}?after=1"), None).await;
                assert_eq!(beyond.event().await.unwrap().name(), "reset", "{path}");
            }
            Sight::Sums => {
                assert!(!owner.get(path).await.json()["items"].as_array().unwrap().is_empty(), "{path}");
                let report = stranger.get(path).await.json();
                assert_eq!((&report["items"], &report["position"]), (&json!([]), &json!("0")), "{path}");
            }
            Sight::Nobodys => assert_eq!(ask(&owner, route, &furniture).await.body, ask(&stranger, route, &furniture).await.body),
            // Tried below, where the stranger has calls of its own.
            Sight::Own => {}
            Sight::Signed => drop(ask(&stranger, route, &furniture).await.problem(404, "not-found")),
        }
    }
    // The stranger's attempt to cancel has changed nothing.
    let call = owner.get(&format!("/v1/tool-calls/{}", furniture.call)).await.json();
    assert_eq!(call["status"], "succeeded");
}

#[tokio::test]
async fn what_a_stranger_does_itself_finds_and_repeats_nothing_of_another_tenant() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.admin(), app.admin());
    let furniture = Furniture::make(&owner).await;
    let audit = owner.audit().await;
    // The same key and body: another call.
    for route in ROUTES.iter().filter(|route| route.sight == Sight::Own) {
        let (theirs, own) = (ask(&owner, route, &furniture).await, ask(&stranger, route, &furniture).await);
        assert!(theirs.header("location").starts_with("/v1/tool-calls/"), "{}", route.path);
        assert_ne!(theirs.header("location"), own.header("location"), "{}", route.path);
    }
    let hits = stranger.result_of("knowledge.search", json!({"query": "secret"})).await;
    assert_eq!(hits["hits"], json!([]));
    let got = stranger.call_and_wait("get", &json!({"tool": "knowledge.get", "arguments": {"document_id": "d"}})).await.json();
    assert_eq!(got["status"], "failed", "{got}");
    let filtered = stranger.get(&format!("/v1/audit?call_id={}", furniture.call)).await.json();
    assert_eq!(filtered["items"], json!([]));
    // The stranger's own history begins at 1, and holds nothing of the owner's.
    let mut all = stranger.events("?after=0", None).await;
    let first = all.event().await.unwrap();
    assert_eq!((first.position(), first.json()["tenantid"].clone()), (1, json!(stranger.tenant.0)));
    let mut one = stranger.events(&format!("?after={}&call_id={}", audit.len() + 100, furniture.call), None).await;
    assert_eq!(one.event().await.unwrap().name(), "reset");
}

#[tokio::test]
async fn a_reader_without_a_tenant_sees_no_row_of_anybody() {
    let app = TestApp::start().await;
    let client = app.admin();
    Furniture::make(&client).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let mut reader = app.stack.connect(TableOwner::Reader).await;
    for table in tenant_tables(&mut superuser).await {
        let count = format!("select count(*) from {table}");
        // Here a row shows itself to whoever also says what it looks for.
        let look = if table == "knowledge_index" { "set_config('app.search_query', 'secret', true)" } else { "null" };
        let all: i64 = sqlx::query_scalar(&count).fetch_one(&mut superuser).await.unwrap();
        let mut seen = async |tenant: Option<Uuid>| {
            if let Some(tenant) = tenant {
                reader.execute(format!("begin; select set_tenant('{tenant}'), {look}").as_str()).await.unwrap();
            }
            let seen: i64 = sqlx::query_scalar(&count).fetch_one(&mut reader).await.unwrap();
            if tenant.is_some() {
                reader.execute("commit").await.unwrap();
            }
            seen
        };
        assert_eq!(seen(None).await, 0, "{table} without a tenant");
        assert_eq!(seen(Some(Uuid::from_u128(1))).await, 0, "{table} as a stranger");
        assert_eq!(seen(Some(client.tenant.0)).await, all, "{table} as its owner: only this tenant has rows");
        assert_eq!(seen(None).await, 0, "{table}: the tenant outlived its transaction");
    }
    assert!(reader.execute("select count(*) from _sqlx_migrations").await.is_err(), "the reader has no business there");
}

#[tokio::test]
async fn neither_plans_nor_statistics_nor_errors_tell_of_another_tenants_rows() {
    let app = TestApp::start().await;
    Furniture::make(&app.admin()).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("analyze").await.unwrap();
    let mut reader = app.stack.connect(TableOwner::Reader).await;
    reader.execute(format!("begin; select set_tenant('{}')", Uuid::from_u128(1)).as_str()).await.unwrap();
    for table in tenant_tables(&mut superuser).await {
        for view in ["pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"] {
            let count = format!("select count(*) from {view} where tablename = '{table}'");
            let shown: i64 = sqlx::query_scalar(&count).fetch_one(&mut reader).await.unwrap();
            assert_eq!(shown, 0, "{view} shows {table}");
        }
    }
    // A condition that fails on a row is not even asked of the rows of others, whichever way they are found.
    for setting in ["on", "off"] {
        for method in ["enable_seqscan", "enable_indexscan", "enable_bitmapscan"] {
            reader.execute(format!("set local {method} = {setting}").as_str()).await.unwrap();
        }
        let failing = "select count(*) from task where 1 / (length(title) - length('secret')) > 0";
        let found: i64 = sqlx::query_scalar(failing).fetch_one(&mut reader).await.unwrap();
        assert_eq!(found, 0);
        let plan = "explain (analyze, verbose, buffers off, timing off) select * from task where title like 's%'";
        let lines = reader.fetch_all(plan).await.unwrap();
        let text: String = lines.iter().map(|line| line.get::<String, _>(0) + "\n").collect();
        assert!(!text.contains("secret"), "{text}");
    }
    reader.execute("rollback").await.unwrap();
    assert!(reader.execute("select * from pg_statistic limit 1").await.is_err(), "the raw statistics are readable");
}
