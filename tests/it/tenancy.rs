//! No tenant sees, counts, or even guesses at another's.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::app::{Answer, Client, TableOwner, Tenant, TestApp, send};

/// One of everything a tenant can own.
struct Belongings {
    call: String,
    artifact: String,
    position: usize,
}

async fn furnish(client: &Client) -> Belongings {
    client.result_of("task.create", json!({"title": "secret"})).await;
    client.result_of("knowledge.upsert", json!({"document_id": "d", "title": "secret", "content": "secret"})).await;
    let rendered = client.result_of("document.render", json!({"title": "secret", "markdown": "secret", "format": "html"})).await;
    let calls = client.get("/v1/tool-calls").await.json();
    Belongings {
        call: calls["items"][0]["call_id"].as_str().unwrap().to_owned(),
        artifact: rendered["artifact_id"].as_str().unwrap().to_owned(),
        position: client.audit().await.len(),
    }
}

/// A refusal without what differs between any two requests.
fn without_trace(answer: &Answer) -> (u16, Value) {
    let mut problem = answer.json();
    problem.as_object_mut().unwrap().remove("trace_id").unwrap();
    (answer.status, problem)
}

#[tokio::test]
async fn another_tenants_things_look_exactly_like_nothing() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.admin(), app.admin());
    let Belongings { call, artifact, .. } = furnish(&owner).await;
    let paths = [
        (Method::GET, "/v1/tool-calls/{}", &call),
        (Method::GET, "/v1/tool-calls/{}?min_position=0", &call),
        (Method::GET, "/v1/tool-calls/{}/events", &call),
        (Method::POST, "/v1/tool-calls/{}/cancel", &call),
        (Method::GET, "/v1/artifacts/{}", &artifact),
    ];
    for (method, path, id) in paths {
        let ask = async |client: &Client, id: &str| send(client.request(method.clone(), &path.replace("{}", id))).await;
        assert_ne!(ask(&owner, id).await.status, 404, "{path} must exist, or this proves nothing");
        let (theirs, nothing) = (ask(&stranger, id).await, ask(&stranger, &Uuid::from_u128(1).to_string()).await);
        theirs.problem(404, "not-found");
        assert_eq!(without_trace(&theirs), without_trace(&nothing), "{path}");
        let names = |answer: &Answer| {
            let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&theirs), names(&nothing), "{path}");
    }
    // The stranger's attempt to cancel has changed nothing.
    assert_eq!(owner.get(&format!("/v1/tool-calls/{call}")).await.json()["status"], "succeeded");
}

#[tokio::test]
async fn every_list_of_another_tenant_is_empty_and_every_search_finds_nothing() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.admin(), app.admin());
    let Belongings { call, position, .. } = furnish(&owner).await;
    for list in ["/v1/tool-calls", "/v1/tasks", "/v1/documents", "/v1/audit"] {
        assert!(!owner.get(list).await.json()["items"].as_array().unwrap().is_empty(), "{list}");
        assert_eq!(stranger.get(list).await.json(), json!({"items": [], "next_cursor": null}), "{list}");
    }
    assert_eq!(stranger.get(&format!("/v1/audit?call_id={call}")).await.json()["items"], json!([]));
    assert_eq!(stranger.get("/v1/audit/export").await.text(), "");
    let hits = stranger.result_of("knowledge.search", json!({"query": "secret"})).await;
    assert_eq!(hits, json!({"hits": []}));
    // The stranger's own history begins at 1, and holds nothing of the owner's.
    let mut stream = stranger.events(&format!("?after=0&call_id={call}"), None).await;
    stream.frame().await.unwrap();
    let mut all = stranger.events("?after=0", None).await;
    let first = all.event().await.unwrap();
    assert_eq!((first.position(), first.json()["tenantid"].clone()), (1, json!(stranger.tenant.0)));
    // A position that is the owner's newest is impossible for the stranger.
    let mut beyond = stranger.events(&format!("?after={position}"), None).await;
    assert_eq!(beyond.event().await.unwrap().name(), "reset");
}

#[tokio::test]
async fn every_reading_route_asks_for_a_token_and_a_permission() {
    let app = TestApp::start().await;
    let nobody = app.client(Tenant::new(), "nobody");
    let id = Uuid::from_u128(1);
    let paths = [
        "/v1/tool-calls".to_owned(),
        format!("/v1/tool-calls/{id}"),
        format!("/v1/tool-calls/{id}/events"),
        "/v1/events".to_owned(),
        "/v1/audit".to_owned(),
        "/v1/audit/export".to_owned(),
        "/v1/tools".to_owned(),
        "/v1/tools/task.create".to_owned(),
        "/v1/tasks".to_owned(),
        "/v1/documents".to_owned(),
        format!("/v1/artifacts/{id}"),
    ];
    for path in paths {
        let anonymous = send(nobody.anonymous(Method::GET, &path)).await;
        anonymous.problem(401, "unauthenticated");
        assert!(anonymous.header("www-authenticate").starts_with("Bearer"), "{path}");
        nobody.get(&path).await.problem(403, "forbidden");
        send(nobody.request(Method::PUT, &path)).await.problem(405, "method-not-allowed");
    }
}

/// Tables and views of the schema, with what the catalogue says about their row security.
async fn relations(connection: &mut PgConnection) -> Vec<(String, String, bool, bool, bool)> {
    sqlx::query_as(
        "select c.relname::text, c.relkind::text, c.relrowsecurity, c.relforcerowsecurity,
                exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
         from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn every_table_of_tenants_has_row_level_security_enabled_and_forced() {
    let app = TestApp::start().await;
    let mut owner = app.stack.connect(TableOwner::Superuser).await;
    let relations = relations(&mut owner).await;
    let of_tenants: Vec<_> = relations.iter().filter(|(.., has_tenant)| *has_tenant).collect();
    for table in ["audit_event", "parked_event", "tool_call", "task", "document", "knowledge_document"] {
        assert!(of_tenants.iter().any(|(name, ..)| name == table), "{table} is gone: this test must follow");
    }
    for (name, kind, enabled, forced, _) in of_tenants {
        if kind == "v" {
            // A view is covered by its tables only when it reads them as its caller.
            let invoker = format!(
                "select coalesce('security_invoker=true' = any(reloptions), false) from pg_class where oid = '{name}'::regclass"
            );
            let invoker: bool = sqlx::query_scalar(&invoker).fetch_one(&mut owner).await.unwrap();
            assert!(invoker, "the view {name} reads as its owner");
            continue;
        }
        assert!(*enabled && *forced, "{name} ({kind}): row level security must be enabled and forced");
    }
    // A table without tenants says so here, and nowhere else.
    let of_nobody = relations.iter().filter(|(_, _, _, _, has_tenant)| !has_tenant).map(|(name, ..)| name.as_str());
    let mut of_nobody: Vec<_> = of_nobody.collect();
    of_nobody.sort_unstable();
    assert_eq!(of_nobody, ["_sqlx_migrations", "projection_checkpoint"]);
}

#[tokio::test]
async fn a_reader_without_a_tenant_sees_no_row_of_anybody() {
    let app = TestApp::start().await;
    let client = app.admin();
    furnish(&client).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let mut reader = app.stack.connect(TableOwner::Reader).await;
    for (name, _, _, _, has_tenant) in relations(&mut superuser).await {
        let count = format!("select count(*) from {name}");
        let seen: Result<i64, _> = sqlx::query_scalar(&count).fetch_one(&mut reader).await;
        if has_tenant {
            assert_eq!(seen.unwrap(), 0, "{name} without a tenant");
            let stranger = format!("begin; select set_tenant('{}')", Uuid::from_u128(1));
            reader.execute(stranger.as_str()).await.unwrap();
            let strangers: i64 = sqlx::query_scalar(&count).fetch_one(&mut reader).await.unwrap();
            assert_eq!(strangers, 0, "{name} as a stranger");
            reader.execute("rollback").await.unwrap();
            let owner = format!("begin; select set_tenant('{}')", client.tenant.0);
            reader.execute(owner.as_str()).await.unwrap();
            let own: i64 = sqlx::query_scalar(&count).fetch_one(&mut reader).await.unwrap();
            let all: i64 = sqlx::query_scalar(&count).fetch_one(&mut superuser).await.unwrap();
            assert_eq!(own, all, "{name} as its owner: only this tenant has rows");
            reader.execute("commit").await.unwrap();
            let afterwards: i64 = sqlx::query_scalar(&count).fetch_one(&mut reader).await.unwrap();
            assert_eq!(afterwards, 0, "{name}: the tenant outlived its transaction");
        } else if name == "_sqlx_migrations" {
            assert!(seen.is_err(), "the reader has no business in {name}");
        }
        let write = format!("delete from {name}");
        assert!(reader.execute(write.as_str()).await.is_err(), "the reader may delete from {name}");
    }
    reader.close().await.unwrap();
}

#[tokio::test]
async fn the_audit_trail_can_only_grow() {
    let app = TestApp::start().await;
    let client = app.admin();
    furnish(&client).await;
    let before = client.audit().await;
    for login in [TableOwner::Reader, TableOwner::Projector, TableOwner::Owner, TableOwner::Superuser] {
        let mut connection = app.stack.connect(login).await;
        for statement in [
            "update audit_event set actor = 'nobody'",
            "delete from audit_event",
            "delete from audit_event where position = 1",
            "truncate audit_event",
            "truncate audit_event cascade",
        ] {
            // The owner is subject to row security too and sees no row to change, so it must name the tenant's policy away first.
            let refused = connection.execute(statement).await;
            let harmless = refused.is_err() || refused.unwrap().rows_affected() == 0;
            assert!(harmless, "{login:?}: {statement}");
        }
        connection.close().await.unwrap();
    }
    assert_eq!(client.audit().await, before);
    // With the rows in sight, the trigger itself refuses.
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    for statement in ["update audit_event set actor = 'nobody'", "delete from audit_event", "truncate audit_event"] {
        let error = superuser.execute(statement).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}
