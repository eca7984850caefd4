//! `toolgate parked`: what could not be projected is projected after all, and comes out as if it always had been.

use futures::future::join_all;
use sqlx::Executor;

use super::{Written, projected, read_models, tenant_in, toolgate, toolgate_with};
use crate::app::{Child, Role, Stack, TableOwner, Tenant, request, wait_until};

const NEVER_STARTED: &str = "alter table tool_call add constraint never_started check (attempts = 0)";
const STARTED_AGAIN: &str = "alter table tool_call drop constraint never_started";

async fn execute(stack: &Stack, statement: &str) {
    stack.connect(TableOwner::Superuser).await.execute(statement).await.unwrap();
}

async fn parked(stack: &Stack) -> i64 {
    stack.count("select count(*) from parked_event").await
}

/// Everything from the log once more, into empty tables.
async fn projected_anew(stack: &Stack, events: i64) -> Vec<String> {
    let lost = "set session_replication_role = replica; truncate tool_call, audit_event, parked_event cascade;
        update projection_checkpoint set stream_sequence = 0, event_id = null";
    execute(stack, lost).await;
    let _projector = Child::start(stack, Role::Projector, &[]).await;
    wait_until("all is projected anew", async || projected(stack).await == events).await;
    read_models(stack).await
}

#[tokio::test]
async fn what_was_refused_is_projected_by_a_retry_and_equals_a_projection_anew() {
    let stack = Stack::new().await;
    execute(&stack, NEVER_STARTED).await;
    let log = stack.log().await;
    let (tenant, neighbour) = (tenant_in(0), tenant_in(3));
    let mut calls = Vec::new();
    for tenant in [tenant, tenant, neighbour] {
        let mut call = Written::request(&log, tenant).await;
        call.start(&log).await;
        call.succeed(&log).await;
        calls.push(call);
    }
    let mut projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("all is parked", async || parked(&stack).await == 6).await;
    let since = "select count(distinct parked_at) from parked_event";
    assert!(stack.count(since).await >= 1);

    let listed = toolgate(&stack, &["parked", "list", "--tenant", &tenant.0.to_string()]).await;
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.lines().count() == 4, "{text}");
    assert!(text.contains("refused: ") && text.contains("waiting: waits for position 2") && text.contains("tool_call_started"));
    assert!(!text.contains(&neighbour.0.to_string()), "{text}");

    // Nothing has changed, and so nothing changes.
    let before = read_models(&stack).await;
    let kept = "select coalesce(sum(extract(epoch from parked_at) * 1000000), 0)::bigint from parked_event";
    let times = stack.count(kept).await;
    let vain = toolgate(&stack, &["parked", "retry"]).await;
    assert_eq!(vain.status.code(), Some(1), "{vain:?}");
    assert!(String::from_utf8_lossy(&vain.stderr).contains("projected: 0; still parked: 6"), "{vain:?}");
    assert_eq!((read_models(&stack).await, parked(&stack).await, stack.count(kept).await), (before, 6, times));

    execute(&stack, STARTED_AGAIN).await;
    // One call by its position: what waits for it comes along, and nobody else's does.
    let one = toolgate(&stack, &["parked", "retry", "--tenant", &tenant.0.to_string(), "--position", "2"]).await;
    assert!(one.status.success() && String::from_utf8_lossy(&one.stderr).contains("projected: 2; still parked: 0"), "{one:?}");
    assert_eq!((parked(&stack).await, stack.count("select count(*) from task").await), (4, 1));
    // Dying in the middle leaves all of it as it was.
    let died = toolgate_with(&stack, &["parked", "retry"], &[("TOOLGATE_CRASH_AT", "parked.retried")]).await;
    assert!(!died.status.success());
    assert_eq!((parked(&stack).await, stack.count("select count(*) from task").await), (4, 1));
    let all = toolgate(&stack, &["parked", "retry"]).await;
    assert!(all.status.success(), "{all:?}");
    assert_eq!((parked(&stack).await, stack.count("select count(*) from task").await), (0, 3));

    let retried = read_models(&stack).await;
    projector.kill().await;
    assert_eq!(projected_anew(&stack, 9).await, retried);
}

/// An older release parked one event and let the later ones of its call through.
#[tokio::test]
async fn a_call_that_was_projected_past_its_parked_event_is_made_anew_of_all_its_events() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let mut call = Written::request(&log, tenant_in(1)).await;
    call.start(&log).await;
    call.succeed(&log).await;
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("all is projected", async || projected(&stack).await == 3).await;
    let right = read_models(&stack).await;
    let as_if = "update tool_call set attempts = 0;
        insert into parked_event (tenant_id, stream_sequence, position, aggregate_id, reason)
        select tenant_id, stream_sequence, position, aggregate_id, 'unknown event type' from audit_event where position = 2";
    execute(&stack, as_if).await;
    assert_ne!(read_models(&stack).await, right);
    assert!(toolgate(&stack, &["parked", "retry"]).await.status.success());
    assert_eq!(read_models(&stack).await, right);
    assert_eq!(parked(&stack).await, 0);
}

/// The retry and the projector meet at the same calls, again and again: whichever comes first, no event is lost between them.
#[tokio::test]
async fn events_that_arrive_during_a_retry_are_projected_by_one_or_the_other() {
    let stack = Stack::new().await;
    execute(&stack, NEVER_STARTED).await;
    let log = stack.log().await;
    let tenant: Tenant = tenant_in(2);
    let mut calls = Vec::new();
    for _ in 0..40 {
        let mut call = Written::request(&log, tenant).await;
        call.start(&log).await;
        calls.push(call);
    }
    let mut projector = Child::start(&stack, Role::Projector, &[("TOOLGATE_PROJECTOR_BATCH", "3")]).await;
    wait_until("all is parked", async || parked(&stack).await == 40).await;
    execute(&stack, STARTED_AGAIN).await;
    let (retried, ()) = tokio::join!(toolgate(&stack, &["parked", "retry"]), async {
        join_all(calls.iter_mut().map(|call| call.succeed(&log))).await;
    });
    assert!(retried.status.success(), "{retried:?}");
    wait_until("all is projected", async || projected(&stack).await == 120).await;
    // What was parked behind an event that was still parked at that moment, if anything.
    assert!(toolgate(&stack, &["parked", "retry"]).await.status.success());
    assert_eq!(parked(&stack).await, 0);
    let retried = read_models(&stack).await;
    assert_eq!(stack.count("select count(*) from tool_call where status = 'succeeded'").await, 40);
    assert_eq!(stack.count("select count(*) from task").await, 40);
    projector.kill().await;
    assert_eq!(projected_anew(&stack, 120).await, retried);
}

/// Sums do not depend on what a tool's read model makes of an outcome: that may be content, and content may be erased.
#[tokio::test]
async fn an_outcome_that_its_tools_read_model_refuses_counts_once() {
    let stack = Stack::new().await;
    execute(&stack, "alter table task add constraint no_task check (version = 0)").await;
    let log = stack.log().await;
    let mut requested = request("f");
    requested.session_id = Some("s".to_owned());
    let mut call = Written::with(&log, tenant_in(1), requested).await;
    call.start(&log).await;
    call.succeed(&log).await;
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("it is parked", async || parked(&stack).await == 1).await;
    let counted = async || {
        let session = stack.count("select succeeded * 100 + running * 10 + tasks from session").await;
        (session, stack.count("select sum(succeeded)::bigint from usage_day").await)
    };
    assert_eq!(counted().await, (101, 1));
    assert_eq!(toolgate(&stack, &["parked", "retry"]).await.status.code(), Some(1));
    assert_eq!(counted().await, (101, 1), "it is parked as before");
    execute(&stack, "alter table task drop constraint no_task").await;
    assert!(toolgate(&stack, &["parked", "retry"]).await.status.success());
    assert_eq!((parked(&stack).await, stack.count("select count(*) from task").await), (0, 1));
    assert_eq!(counted().await, (101, 1));
}

/// Whoever switches to rebuilt tables holds what every projector begins with; between the tables a retry would count twice.
#[tokio::test]
async fn a_retry_touches_nothing_during_a_switch() {
    let stack = Stack::new().await;
    execute(&stack, NEVER_STARTED).await;
    let log = stack.log().await;
    Written::request(&log, tenant_in(0)).await.start(&log).await;
    let mut projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("it is parked", async || parked(&stack).await == 1).await;
    projector.kill().await;
    execute(&stack, STARTED_AGAIN).await;
    let mut switch = stack.connect(TableOwner::Superuser).await;
    switch.execute("begin; lock table projection_checkpoint in share row exclusive mode").await.unwrap();
    let (retried, ()) = tokio::join!(toolgate(&stack, &["parked", "retry"]), async {
        let waiting = "select count(*) from pg_locks where not granted and relation = 'projection_checkpoint'::regclass
            and database = (select oid from pg_database where datname = current_database())";
        wait_until("it waits", async || stack.count(waiting).await == 1).await;
        assert_eq!(parked(&stack).await, 1);
        switch.execute("commit").await.unwrap();
    });
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(parked(&stack).await, 0);
}
