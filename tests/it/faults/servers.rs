//! The death of the servers that everything stands on.

use super::{Caller, Roles, assert_all_is_well, post_through};
use crate::app::Stack;

#[tokio::test]
async fn killing_nats_loses_nothing_it_acknowledged() {
    let (stack, mut services) = Stack::private(false).await;
    let (_roles, Caller { posts, reads }) = Roles::start(&stack).await;
    let nats = services.nats_mut().unwrap();
    let posted = post_through(&posts, async {
        nats.kill().await;
        nats.restart().await.unwrap();
    })
    .await;
    assert_all_is_well(&stack, &reads, posted).await;
}

#[tokio::test]
async fn killing_postgres_delays_the_readers_and_nobody_else() {
    let (stack, mut services) = Stack::private(false).await;
    let (_roles, Caller { posts, reads }) = Roles::start(&stack).await;
    let postgres = services.postgres_mut().unwrap();
    let posted = post_through(&posts, async {
        postgres.kill().await;
        postgres.restart().await.unwrap();
    })
    .await;
    assert_all_is_well(&stack, &reads, posted).await;
}
