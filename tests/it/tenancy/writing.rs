//! What nobody can write, and what nobody learns by trying.

use serde_json::json;
use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::catalogue::tenant_tables;
use crate::{
    app::{Client, TableOwner, TestApp},
    census::table::Furniture,
};

async fn furnish(client: &Client) {
    Furniture::make(client).await;
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

#[tokio::test]
async fn the_runtime_roles_can_shape_nothing_and_become_nobody() {
    let app = TestApp::start().await;
    let forbidden = [
        "create table mine (tenant_id uuid)",
        "create temporary table mine (tenant_id uuid)",
        "create schema mine",
        "create view mine as select 1",
        "create function mine() returns integer language sql as 'select 1'",
        "create function pg_temp.mine() returns integer language sql as 'select 1'",
        "create extension dblink",
        "create role mine",
        "create database mine",
        "alter table task disable row level security",
        "alter table task no force row level security",
        "alter role toolgate_reader bypassrls",
        "create policy mine on task using (true)",
        "drop policy tenant_reads on task",
        "alter table audit_event disable trigger all",
        "drop trigger audit_event_append_only on audit_event",
        "set session_replication_role = replica",
        "set session authorization toolgate_owner",
        "set role toolgate_owner",
        "grant toolgate_projector to toolgate_reader",
        "copy task to program 'cat'",
        "copy task to '/tmp/task'",
        "select pg_read_file('/etc/passwd')",
        "select lo_import('/etc/passwd')",
        "set row_security = off; select * from task",
    ];
    for login in [TableOwner::Reader, TableOwner::Projector] {
        let mut connection = app.stack.connect(login).await;
        for statement in forbidden {
            let done = connection.execute(statement).await;
            assert!(done.is_err(), "{login:?}: {statement}");
        }
        connection.close().await.unwrap();
    }
    let mut reader = app.stack.connect(TableOwner::Reader).await;
    assert!(reader.execute("set role toolgate_projector").await.is_err());
    let mut projector = app.stack.connect(TableOwner::Projector).await;
    assert!(projector.execute("set role toolgate_reader").await.is_err());
    assert!(projector.execute("select set_tenant(gen_random_uuid())").await.is_err(), "only readers have a tenant");
}

#[tokio::test]
async fn a_tenant_is_a_uuid_and_not_forgotten() {
    let app = TestApp::start().await;
    let mut reader = app.stack.connect(TableOwner::Reader).await;
    for argument in
        ["null", "null::uuid", "''", "'*'", "'00000000-0000-0000-0000-00000000000'", "'x'' or true'", "1", "array[]::uuid[]"]
    {
        assert!(reader.execute(format!("select set_tenant({argument})").as_str()).await.is_err(), "{argument}");
    }
    reader.execute("select set_tenant('00000000-0000-0000-0000-000000000001')").await.unwrap();
    // What is no tenant at all is an error of the policy, and no way around it.
    for setting in ["*", "x", "' or true --"] {
        let set = sqlx::query("select set_config('app.current_tenant', $1, false)").bind(setting);
        set.execute(&mut reader).await.unwrap();
        assert!(reader.execute("select count(*) from task").await.is_err(), "{setting:?}");
    }
}

/// A key that another tenant has is free: otherwise a refusal would tell that it is taken.
#[tokio::test]
async fn two_tenants_can_have_the_same_keys_in_every_table() {
    let app = TestApp::start().await;
    let owner = app.admin();
    furnish(&owner).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser
        .execute(
            format!(
                "insert into parked_event (tenant_id, stream_sequence, position, aggregate_id, reason)
                 values ('{}', 1, 1, gen_random_uuid(), 'r')",
                owner.tenant.0
            )
            .as_str(),
        )
        .await
        .unwrap();
    let erasure =
        format!("insert into erasure (tenant_id, scope, erased_at, position) values ('{}', 's', now(), 1)", owner.tenant.0);
    superuser.execute(erasure.as_str()).await.unwrap();
    let segment = format!(
        "insert into audit_segment (tenant_id, first_position, last_position, prev_hash, hash, first_occurred_at, last_occurred_at, size, sha256)
         values ('{}', 1, 1, '', '', now(), now(), 1, '')",
        owner.tenant.0
    );
    superuser.execute(segment.as_str()).await.unwrap();
    let mut tables = tenant_tables(&mut superuser).await;
    // Its rows come along with those of knowledge_document, by a trigger.
    tables.retain(|table| table != "knowledge_index");
    // What others refer to comes first.
    tables.sort_by_key(|table| table != "tool_call");
    let mut projector = app.stack.connect(TableOwner::Projector).await;
    let mut transaction = projector.begin().await.unwrap();
    let other = Uuid::from_u128(2);
    for table in tables {
        let columns: String = sqlx::query_scalar(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
             where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' and attname <> 'tenant_id'",
        )
        .bind(&table)
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        let copy = format!(
            "insert into {table} (tenant_id, {columns}) select '{other}', {columns} from {table} where tenant_id = '{}'",
            owner.tenant.0
        );
        let copied = transaction.execute(copy.as_str()).await.unwrap_or_else(|error| panic!("{table}: {error}"));
        assert!(copied.rows_affected() > 0, "{table} has no row to copy: furnish one");
    }
    transaction.rollback().await.unwrap();
}

/// A reader who tries to write learns from the refusal neither that a key is taken nor that it is free.
#[tokio::test]
async fn a_refused_write_says_the_same_of_what_is_there_and_what_is_not() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.admin(), app.admin());
    let task = owner.result_of("task.create", json!({"title": "secret"})).await;
    let (taken, free) = (task["task_id"].as_str().unwrap().to_owned(), Uuid::from_u128(1).to_string());
    let mut reader = app.stack.connect(TableOwner::Reader).await;
    for statement in [
        "update task set title = 'x' where task_id = '{}'",
        "delete from task where task_id = '{}'",
        "insert into task (tenant_id, task_id, call_id, title, created_at, position) values ('{t}', '{}', '{}', 'x', now(), 1)",
        "select * from task where task_id = '{}' for update",
        "insert into task (tenant_id, task_id) values ('{t}', '{}') on conflict do nothing",
    ] {
        let mut refusal = async |id: &str, tenant: Uuid| {
            reader.execute(format!("begin; select set_tenant('{}')", stranger.tenant.0).as_str()).await.unwrap();
            let statement = statement.replace("{}", id).replace("{t}", &tenant.to_string());
            let error = reader.execute(statement.as_str()).await.unwrap_err().to_string();
            reader.execute("rollback").await.unwrap();
            error
        };
        let refused = refusal(&taken, owner.tenant.0).await;
        assert_eq!(refused, refusal(&free, stranger.tenant.0).await, "{statement}");
        assert!(refused.contains("permission denied"), "{refused}");
    }
}
