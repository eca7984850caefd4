//! Erasures meet batches, what is parked, and retries. No key is destroyed here: what is deleted is deleted by the projector.

use serde_json::{Value, json};
use sqlx::Executor;
use toolgate_events::{CallSubject, DataErased, Envelope, Lane, ToolCallEvent};
use toolgate_store::{Clock, Expect, Log};
use uuid::Uuid;

use super::{Duration, Written, projected, tenant_in};
use crate::app::{Child, Role, Stack, TableOwner, Tenant, request, wait_until};

/// What the tenant's log knows a data subject by.
async fn pseudonym(log: &Log, tenant: Tenant) -> String {
    log.keys().scope_of(tenant.id(), "patient-7").await.unwrap().data_subject().unwrap().to_owned()
}

async fn erase(log: &Log, tenant: Tenant, pseudonym: Option<&str>) {
    let erased = DataErased::of(pseudonym);
    let subject = CallSubject::new(4, tenant.id(), Lane::erasure(), erased.id(tenant.id()));
    let stamp = Clock::system().stamp("operator", None, None);
    let envelope = Envelope::of_erasure(erased, tenant.id(), stamp).unwrap();
    log.append(&subject, &envelope, Expect::NOTHING, None, Duration::from_secs(5)).await.unwrap();
}

/// A change of a task, decided against the version before.
async fn update(log: &Log, tenant: Tenant, task: Uuid, version: u32, about: Option<&str>) {
    let mut requested = request("f");
    requested.tool = "task.update".to_owned();
    let arguments = json!({"task_id": task, "title": format!("version {version}")});
    requested.arguments = arguments.as_object().unwrap().clone();
    requested.data_subject = about.map(str::to_owned);
    let mut call = Written::with(log, tenant, requested).await;
    let result = json!({"task_id": task, "previous_status": "open", "title": format!("version {version}"), "description": null,
        "assignee": null, "due": null, "labels": [], "status": "open", "version": version});
    let mut succeeded = json!({"tool": "task.update", "attempt": 1, "worker": "w", "duration_ms": 1, "result": result,
        "cached": false, "stale": false});
    if let Some(about) = about {
        succeeded["data_subject"] = Value::from(about);
    }
    call.append(log, ToolCallEvent::ToolCallSucceeded(serde_json::from_value(succeeded).unwrap())).await;
}

async fn execute(stack: &Stack, statement: &str) {
    stack.connect(TableOwner::Superuser).await.execute(statement).await.unwrap();
}

#[tokio::test]
async fn an_erasure_deletes_what_is_there_at_its_place_however_batches_are_cut() {
    for batch in ["1", "3", "256"] {
        let stack = Stack::new().await;
        let (log, tenant) = (stack.log().await, tenant_in(1));
        let about = pseudonym(&log, tenant).await;
        let mut created = Written::request(&log, tenant).await;
        created.succeed(&log).await;
        let task = created.id().0;
        update(&log, tenant, task, 2, Some(&about)).await;
        update(&log, tenant, task, 3, None).await;
        erase(&log, tenant, Some(&about)).await;
        update(&log, tenant, task, 4, None).await;
        let _projector = Child::start(&stack, Role::Projector, &[("TOOLGATE_PROJECTOR_BATCH", batch)]).await;
        wait_until("all is projected", async || projected(&stack).await == 9).await;
        assert_eq!(stack.count("select count(*) from task").await, 0, "{batch}: it goes whole");
        assert_eq!(stack.count("select count(*) from task_change").await, 0, "{batch}");
        assert_eq!(
            stack.count("select sum(position)::bigint from parked_event").await,
            9,
            "{batch}: what came later has no task"
        );
    }
}

#[tokio::test]
async fn what_is_parked_of_a_data_subject_goes_with_it() {
    let stack = Stack::new().await;
    execute(&stack, "alter table tool_call add constraint refused check (attempts = 0 and session_id is null)").await;
    let (log, tenant) = (stack.log().await, tenant_in(2));
    let about = pseudonym(&log, tenant).await;
    let said = |session_id: Option<&str>, about: Option<&str>| {
        let mut requested = request("f");
        (requested.session_id, requested.data_subject) = (session_id.map(str::to_owned), about.map(str::to_owned));
        requested
    };
    let mut calls = Vec::new();
    for (session_id, about) in [(Some("s"), Some(about.as_str())), (None, Some(about.as_str())), (None, None)] {
        let mut call = Written::with(&log, tenant, said(session_id, about)).await;
        call.start(&log).await;
        calls.push(call);
    }
    let unchecked = [("TOOLGATE_AUDIT_VERIFY_EVENTS_PER_SECOND", "0")];
    let _projector = Child::start(&stack, Role::Projector, &unchecked).await;
    wait_until("four are parked", async || stack.count("select count(*) from parked_event").await == 4).await;
    // The rows of the second have left the table.
    let archived =
        format!("set session_replication_role = replica; delete from audit_event where aggregate_id = '{}'", calls[1].id().0);
    execute(&stack, &archived).await;
    erase(&log, tenant, Some(&about)).await;
    wait_until("it is erased", async || stack.count("select count(*) from erasure").await == 1).await;
    let left = format!("select count(*) from parked_event where aggregate_id = '{}'", calls[2].id().0);
    assert_eq!((stack.count("select count(*) from parked_event").await, stack.count(&left).await), (1, 1));
}

#[tokio::test]
async fn an_erasure_waits_for_whoever_tries_again_what_is_parked_of_the_tenant() {
    let stack = Stack::new().await;
    let (log, tenant) = (stack.log().await, tenant_in(3));
    let mut call = Written::request(&log, tenant).await;
    call.succeed(&log).await;
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("all is projected", async || projected(&stack).await == 2).await;
    let mut retry = stack.connect(TableOwner::Superuser).await;
    // "TGPK", and whose.
    let lock = format!("begin; select pg_advisory_xact_lock(x'5447504b'::int, hashtext('{}'))", tenant.0);
    retry.execute(lock.as_str()).await.unwrap();
    erase(&log, tenant, None).await;
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted and classid = x'5447504b'::int
        and database = (select oid from pg_database where datname = current_database())";
    wait_until("it waits", async || stack.count(waiting).await == 1).await;
    assert_eq!((stack.count("select count(*) from erasure").await, stack.count("select count(*) from task").await), (0, 1));
    retry.execute("rollback").await.unwrap();
    wait_until("it is erased", async || stack.count("select count(*) from erasure").await == 1).await;
    assert_eq!(stack.count("select count(*) from task").await, 0);
}
