//! Reading a stretch of the log that ends.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use toolgate_events::{CallId, CallSubject, Envelope, Lane, Partition, TenantId, ToolCallEvent};
use toolgate_store::{Clock, Expect, Log};

use crate::app::{Stack, Tenant, request, wait_until};

async fn append(log: &Log, tenant: Tenant) -> CallId {
    let clock = Clock::system();
    let call = CallId(clock.new_id());
    let subject = CallSubject::new(log.partitions(), tenant.id(), Lane::new("task").unwrap(), call);
    let event = ToolCallEvent::ToolCallRequested(request("f"));
    let envelope = Envelope::seal(&event, tenant.id(), call, 1, clock.stamp("tester", None, None)).unwrap();
    log.append(&subject, &envelope, Expect::NOTHING, None, Duration::from_secs(5)).await.unwrap();
    call
}

async fn read(log: &Log, partition: Partition, tenant: Option<TenantId>, since: DateTime<Utc>) -> Vec<CallId> {
    let messages: Vec<_> = log.read_since(partition, tenant, since).await.unwrap().try_collect().await.unwrap();
    messages.iter().map(|message| CallSubject::parse(&message.subject).unwrap().call_id).collect()
}

/// Two tenants that live in one partition.
fn neighbours(log: &Log) -> (Tenant, Tenant, Partition) {
    let one = Tenant::new();
    let partition = Partition::of(one.id(), log.partitions());
    let other = std::iter::repeat_with(Tenant::new).find(|other| Partition::of(other.id(), log.partitions()) == partition);
    (one, other.unwrap(), partition)
}

#[tokio::test]
async fn it_ends_with_what_was_last_when_it_began_whosoever_that_was() {
    let log = Stack::new().await.log().await;
    let (one, other, partition) = neighbours(&log);
    let begin = Clock::system().now() - chrono::Duration::hours(1);
    assert_eq!(read(&log, partition, None, begin).await, [] as [CallId; 0], "an empty log has an end too");
    let first = append(&log, one).await;
    let second = append(&log, other).await;
    assert_eq!(read(&log, partition, None, begin).await, [first, second]);
    // The end of a tenant's reading is not the end of the log.
    assert_eq!(read(&log, partition, Some(one.id()), begin).await, [first]);
    assert_eq!(read(&log, partition, Some(other.id()), begin).await, [second]);
    assert_eq!(read(&log, partition, Some(Tenant::new().id()), begin).await, [] as [CallId; 0]);
    // What comes after it has begun is not part of it.
    let reading = log.read_since(partition, None, begin).await.unwrap();
    append(&log, one).await;
    assert_eq!(reading.try_collect::<Vec<_>>().await.unwrap().len(), 2);
}

#[tokio::test]
async fn it_begins_with_its_time() {
    let log = Stack::new().await.log().await;
    let (one, _, partition) = neighbours(&log);
    append(&log, one).await;
    let between = Clock::system().now();
    wait_until("the clock has moved on", async || Clock::system().now() > between).await;
    let second = append(&log, one).await;
    let third = append(&log, one).await;
    assert_eq!(read(&log, partition, None, between).await, [second, third]);
    let future = Clock::system().now() + chrono::Duration::hours(1);
    assert_eq!(read(&log, partition, None, future).await, [] as [CallId; 0]);
    assert!(log.read_since(partition, None, DateTime::<Utc>::MIN_UTC).await.is_err(), "a time beyond all clocks is an error");
}
