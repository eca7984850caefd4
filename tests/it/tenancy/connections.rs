//! Nothing of a tenant survives on a pooled connection, and no tenant takes them all.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{Executor, PgPool, postgres::PgPoolOptions};
use tokio::time::timeout;
use toolgate_events::TenantId;
use toolgate_security::{ReadPool, TenantTx};
use uuid::Uuid;

use crate::app::{Client, TestApp};

const TASKS: &str = "select count(*) from task";

async fn one_connection(app: &TestApp) -> PgPool {
    PgPoolOptions::new().max_connections(1).connect(app.stack.connections.reader.expose_secret()).await.unwrap()
}

async fn tasks(tx: &mut TenantTx) -> i64 {
    sqlx::query_scalar(TASKS).fetch_one(&mut **tx).await.unwrap()
}

/// A tenant with one task.
async fn furnished(app: &TestApp) -> Client {
    let client = app.admin();
    client.result_of("task.create", json!({"title": "secret"})).await;
    client
}

/// The next user of the connection has no tenant, no row, and no open transaction.
async fn assert_clean(pool: &PgPool, backend: i32, how: &str) {
    let mut connection = pool.acquire().await.unwrap();
    let (now, tenant, writes): (i32, Option<String>, String) = sqlx::query_as(
        "select pg_backend_pid(), nullif(current_setting('app.current_tenant', true), ''), current_setting('transaction_read_only')",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert_eq!((now, tenant), (backend, None), "{how}: on the same connection, without a tenant");
    assert_eq!(writes, "off", "{how}: the read-only transaction is still open");
    let seen: i64 = sqlx::query_scalar(TASKS).fetch_one(&mut *connection).await.unwrap();
    assert_eq!(seen, 0, "{how}");
}

async fn backend(pool: &PgPool) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_transaction_takes_its_tenant_along_however_it_ends() {
    let app = TestApp::start().await;
    let client = furnished(&app).await;
    let pool = one_connection(&app).await;
    let (reads, backend, tenant) = (ReadPool::new(pool.clone()), backend(&pool).await, client.tenant.id());

    let mut tx = TenantTx::begin(&reads, tenant).await.unwrap();
    assert_eq!(tasks(&mut tx).await, 1, "the owner must see its task, or this proves nothing");
    tx.end().await.unwrap();
    assert_clean(&pool, backend, "ended").await;

    let mut tx = TenantTx::begin(&reads, tenant).await.unwrap();
    assert_eq!(tasks(&mut tx).await, 1);
    drop(tx);
    assert_clean(&pool, backend, "dropped").await;

    drop(TenantTx::begin(&reads, tenant).await.unwrap());
    assert_clean(&pool, backend, "dropped unused").await;

    let mut tx = TenantTx::begin(&reads, tenant).await.unwrap();
    assert!(tx.execute("select 1 / 0").await.is_err());
    drop(tx);
    assert_clean(&pool, backend, "failed").await;

    let mut tx = TenantTx::begin(&reads, tenant).await.unwrap();
    assert!(tx.execute("select 1 / 0").await.is_err());
    // PostgreSQL answers the commit of a failed transaction with a rollback.
    drop(tx.end().await);
    assert_clean(&pool, backend, "ended after it had failed").await;

    let panicking = AssertUnwindSafe(async {
        let _tx = TenantTx::begin(&reads, tenant).await.unwrap();
        panic!("on purpose");
    });
    assert!(panicking.catch_unwind().await.is_err());
    assert_clean(&pool, backend, "panicked").await;

    // A query that nobody waits for any longer ends with the connection's next user, or with its own timeout.
    let mut tx = TenantTx::begin(&reads, tenant).await.unwrap();
    let cancelled = timeout(Duration::from_millis(50), tx.execute("select pg_sleep(0.3)")).await;
    assert!(cancelled.is_err());
    drop(tx);
    assert_clean(&pool, backend, "cancelled").await;
}

/// What a session can keep is kept from no later transaction: each begins with its own tenant.
#[tokio::test]
async fn nothing_that_a_session_keeps_carries_a_tenant_to_the_next() {
    let app = TestApp::start().await;
    let (owner, other) = (furnished(&app).await, Uuid::from_u128(1));
    let pool = one_connection(&app).await;
    let reads = ReadPool::new(pool.clone());

    let mut tx = TenantTx::begin(&reads, owner.tenant.id()).await.unwrap();
    // The same statement prepared once, on the same connection, under one generic plan.
    tx.execute("set plan_cache_mode = force_generic_plan").await.unwrap();
    assert_eq!(tasks(&mut tx).await, 1);
    tx.execute("select pg_advisory_lock(1)").await.unwrap();
    assert!(tx.execute("create temporary table kept as select * from task").await.is_err());
    drop(tx);
    let mut tx = TenantTx::begin(&reads, TenantId(other)).await.unwrap();
    assert_eq!(tasks(&mut tx).await, 0);
    tx.end().await.unwrap();

    let mut tx = TenantTx::begin(&reads, owner.tenant.id()).await.unwrap();
    tx.execute("declare kept no scroll cursor for select * from task").await.unwrap();
    assert!(tx.execute("declare held cursor with hold for select * from task").await.is_ok());
    // Even what outlives a commit on purpose goes with a rollback, which is what a dropped transaction gets.
    drop(tx);
    let mut tx = TenantTx::begin(&reads, TenantId(other)).await.unwrap();
    let cursors: i64 =
        sqlx::query_scalar("select count(*) from pg_cursors where name in ('kept', 'held')").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(cursors, 0);
    tx.end().await.unwrap();

    // A session's own setting, which no code of ours makes, is overruled by the next transaction's.
    let mut tx = TenantTx::begin(&reads, owner.tenant.id()).await.unwrap();
    tx.execute(format!("set session app.current_tenant = '{}'", owner.tenant.0).as_str()).await.unwrap();
    tx.end().await.unwrap();
    let mut tx = TenantTx::begin(&reads, TenantId(other)).await.unwrap();
    assert_eq!(tasks(&mut tx).await, 0);
}

#[tokio::test]
async fn a_tenants_transaction_writes_nothing() {
    let app = TestApp::start().await;
    let client = furnished(&app).await;
    let reads = ReadPool::new(one_connection(&app).await);
    for statement in ["delete from task", "update task set title = 'x'", "set transaction read write", "select nextval('x')"] {
        let mut tx = TenantTx::begin(&reads, client.tenant.id()).await.unwrap();
        tasks(&mut tx).await;
        assert!(tx.execute(statement).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn a_tenant_holds_half_of_the_connections_and_leaves_the_others_some() {
    let app = TestApp::start().await;
    let url = app.stack.connections.reader.expose_secret();
    let patience = Duration::from_millis(300);
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(patience).connect(url).await.unwrap();
    let reads = ReadPool::new(pool);
    let (greedy, modest) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
    let begin = async |tenant| TenantTx::begin(&reads, tenant).await;
    let held = [begin(greedy).await.unwrap(), begin(greedy).await.unwrap()];
    assert!(matches!(begin(greedy).await, Err(sqlx::Error::PoolTimedOut)), "half of them are taken");
    let others = [begin(modest).await.unwrap(), begin(modest).await.unwrap()];
    let [first, _second] = held;
    first.end().await.unwrap();
    assert!(begin(greedy).await.is_ok());
    drop(others);
}
