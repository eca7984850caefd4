//! The death of one of our own processes.

use super::{Caller, Roles, assert_all_is_well, post_through};
use crate::app::Stack;

#[tokio::test]
async fn killing_the_command_api_loses_no_accepted_call() {
    let stack = Stack::new().await;
    let (mut roles, Caller { posts, reads }) = Roles::start(&stack).await;
    let posted = post_through(&posts, roles.command_api.kill_and_restart(&stack)).await;
    assert_all_is_well(&stack, &reads, posted).await;
}

#[tokio::test]
async fn killing_the_worker_leaves_every_call_with_one_outcome() {
    let stack = Stack::new().await;
    let (mut roles, Caller { posts, reads }) = Roles::start(&stack).await;
    let posted = post_through(&posts, roles.worker.kill_and_restart(&stack)).await;
    assert_all_is_well(&stack, &reads, posted).await;
}

#[tokio::test]
async fn killing_the_projector_neither_skips_nor_repeats_an_event() {
    let stack = Stack::new().await;
    let (mut roles, Caller { posts, reads }) = Roles::start(&stack).await;
    let posted = post_through(&posts, roles.projector.kill_and_restart(&stack)).await;
    assert_all_is_well(&stack, &reads, posted).await;
}

#[tokio::test]
async fn killing_the_query_api_hurts_only_its_readers() {
    let stack = Stack::new().await;
    let (mut roles, Caller { posts, reads }) = Roles::start(&stack).await;
    let posted = post_through(&posts, roles.query_api.kill_and_restart(&stack)).await;
    assert_all_is_well(&stack, &reads, posted).await;
}
