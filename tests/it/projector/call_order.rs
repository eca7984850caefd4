//! What follows from a call's events follows in their order, or waits.

use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::{Written, projected, samples, tenant_in};
use crate::app::{Child, Role, Stack, TableOwner, publish_raw, wait_until};

/// Parked events as (position, kind, reason).
async fn parked(stack: &Stack) -> Vec<(i64, String, String)> {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    sqlx::query_as("select position, kind, reason from parked_event order by tenant_id, position")
        .fetch_all(&mut superuser)
        .await
        .unwrap()
}

/// Writes a call whose second event nobody understands, with another call of the tenant in between.
async fn write(stack: &Stack) -> (Written, Written) {
    let log = stack.log().await;
    let tenant = tenant_in(1);
    let mut call = Written::request(&log, tenant).await;
    // As it is stored: sealed.
    let first = log.message_at(call.subject.partition, call.last.1).await.unwrap().unwrap();
    let mut strange: serde_json::Value = serde_json::from_slice(&first.payload).unwrap();
    strange["event_id"] = json!(Uuid::from_u128(7));
    strange["aggregate_sequence"] = json!("2");
    strange["event_type"] = json!("tool_call_teleported");
    publish_raw(&stack.connections.nats, &call.subject.to_string(), strange.to_string().as_bytes()).await;
    call.last = (2, 2);
    let mut other = Written::request(&log, tenant).await;
    call.start(&log).await;
    other.start(&log).await;
    call.succeed(&log).await;
    other.succeed(&log).await;
    (call, other)
}

/// Positions: 1 request, 2 strange, 3 other's request, 4 start, 5 other's start, 6 outcome, 7 other's outcome.
#[tokio::test]
async fn later_events_of_a_call_wait_for_the_one_that_is_parked_whatever_the_batch() {
    join_all(["1", "2", "3", "1000"].map(async |batch| {
        let stack = Stack::new().await;
        let (call, other) = write(&stack).await;
        let projector = Child::start(&stack, Role::Projector, &[("TOOLGATE_PROJECTOR_BATCH", batch)]).await;
        wait_until("all is projected", async || projected(&stack).await == 7).await;
        let parked = parked(&stack).await;
        let kinds: Vec<_> = parked.iter().map(|(position, kind, _)| (*position, kind.as_str())).collect();
        assert_eq!(kinds, [(2, "not_understood"), (4, "waiting"), (6, "waiting")], "batches of {batch}");
        assert_eq!((parked[1].2.as_str(), &parked[1].2), ("waits for position 2", &parked[2].2));
        let status = async |call: &Written| {
            let query = format!("select count(*) from tool_call where call_id = '{}' and status = 'succeeded'", call.id());
            stack.count(&query).await
        };
        assert_eq!((status(&call).await, status(&other).await), (0, 1), "batches of {batch}");
        assert_eq!(stack.count("select count(*) from task").await, 1);
        wait_until("what is parked is counted", async || {
            let counted = samples(&projector.url(), "parked_events").await;
            counted.get("{kind=\"waiting\"}") == Some(&2.0) && counted.get("{kind=\"not_understood\"}") == Some(&1.0)
        })
        .await;
    }))
    .await;
}

#[tokio::test]
async fn an_event_the_database_refuses_holds_back_the_rest_of_its_call_in_the_same_batch_and_the_next() {
    for batch in ["1", "1000"] {
        let stack = Stack::new().await;
        let mut superuser = stack.connect(TableOwner::Superuser).await;
        sqlx::query("alter table tool_call add constraint never_started check (attempts = 0)")
            .execute(&mut superuser)
            .await
            .unwrap();
        let log = stack.log().await;
        let mut call = Written::request(&log, tenant_in(2)).await;
        call.start(&log).await;
        call.succeed(&log).await;
        let _projector = Child::start(&stack, Role::Projector, &[("TOOLGATE_PROJECTOR_BATCH", batch)]).await;
        wait_until("all is projected", async || projected(&stack).await == 3).await;
        let parked = parked(&stack).await;
        let kinds: Vec<_> = parked.iter().map(|(position, kind, _)| (*position, kind.as_str())).collect();
        assert_eq!(kinds, [(2, "refused"), (3, "waiting")], "batches of {batch}: {parked:?}");
        assert_eq!(stack.count("select count(*) from tool_call where status = 'requested'").await, 1);
        assert_eq!(stack.count("select count(*) from task").await, 0, "what follows from the outcome waits too");
    }
}
