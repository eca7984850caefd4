//! Counters that all replicas share.

use futures::future::join_all;
use toolgate_store::{CounterName, Counters};

use crate::app::{Stack, Tenant, eventually, publish_raw, wait_until};

fn name(tenant: Tenant, tool: Option<&str>, window: u64) -> CounterName<'_> {
    CounterName { tenant: tenant.id(), tool, window }
}

#[tokio::test]
async fn additions_from_several_replicas_are_all_counted_once() {
    let stack = Stack::new().await;
    let (here, there) = (Counters::of(&stack.log().await), Counters::of(&stack.log().await));
    let tenant = Tenant::new();
    let adding = (0..100).map(|number| {
        let counters = if number % 2 == 0 { &here } else { &there };
        counters.add(name(tenant, None, 1), 3)
    });
    let mut totals: Vec<_> = join_all(adding).await.into_iter().map(Result::unwrap).collect();
    totals.sort_unstable();
    assert_eq!(totals, (1..=100).map(|number| number * 3).collect::<Vec<_>>(), "every addition has a total of its own");
    assert_eq!(here.total(name(tenant, None, 1)).await.unwrap(), 300);
    assert_eq!(there.add(name(tenant, None, 1), -100).await.unwrap(), 200);
    assert_eq!(here.total(name(tenant, None, 1)).await.unwrap(), 200);
}

#[tokio::test]
async fn tenants_tools_and_windows_are_counted_apart() {
    let stack = Stack::new().await;
    let counters = Counters::of(&stack.log().await);
    let (tenant, other) = (Tenant::new(), Tenant::new());
    let names = [
        name(tenant, None, 1),
        name(tenant, None, 2),
        name(tenant, Some("task.create"), 1),
        name(tenant, Some("task.update"), 1),
        name(other, None, 1),
    ];
    for (number, name) in names.into_iter().enumerate() {
        assert_eq!(counters.total(name).await.unwrap(), 0);
        assert_eq!(counters.add(name, number as i64 + 1).await.unwrap(), number as u64 + 1);
    }
    for (number, name) in names.into_iter().enumerate() {
        assert_eq!(counters.total(name).await.unwrap(), number as u64 + 1);
    }
}

#[tokio::test]
async fn a_broker_that_restarts_has_forgotten_nothing() {
    let (stack, mut services) = Stack::private(false).await;
    let counters = Counters::of(&stack.log().await);
    let name = name(Tenant::new(), None, 1);
    assert_eq!(counters.add(name, 5).await.unwrap(), 5);
    let nats = services.nats_mut().unwrap();
    nats.kill().await;
    assert!(counters.add(name, 1).await.is_err(), "nobody answers");
    assert!(counters.total(name).await.is_err(), "nobody answers");
    nats.restart().await.unwrap();
    let total = eventually("the counters are back", async || counters.total(name).await.ok()).await;
    // What was asked while the broker was away may have been sent on by the client.
    assert!((5..=6).contains(&total), "{total}");
}

#[tokio::test]
async fn without_its_stream_nothing_is_counted_until_the_log_is_set_up_again() {
    let stack = Stack::new().await;
    let counters = Counters::of(&stack.log().await);
    let name = name(Tenant::new(), None, 1);
    assert_eq!(counters.add(name, 5).await.unwrap(), 5);
    publish_raw(&stack.connections.nats, "$JS.API.STREAM.DELETE.LIMITS", b"").await;
    wait_until("the counters are gone", async || counters.total(name).await.is_err()).await;
    assert!(counters.add(name, 1).await.is_err());
    stack.log().await;
    assert_eq!(counters.add(name, 1).await.unwrap(), 1);
    assert_eq!(counters.total(name).await.unwrap(), 1);
}
