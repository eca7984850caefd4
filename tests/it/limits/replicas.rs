//! Several replicas enforce one limit.

use std::time::Instant;

use super::{count, post_many, slid};
use crate::app::{Client, Stack, Tenant, TestApp, Token};

/// What one replica may hold unused while another refuses: a 64th of the limit.
const fn lease(limit: u64) -> u64 {
    if limit < 64 { 1 } else { limit / 64 }
}

async fn two_replicas_admit(limit: u64, change: impl Fn(&mut toolgate::settings::Settings)) -> u64 {
    let stack = Stack::new().await;
    let (one, two) = (TestApp::on(stack.clone(), &change).await, TestApp::on(stack.clone(), &change).await);
    let tenant = Tenant::new();
    let here = one.client(tenant, "admin");
    let there = here.at(two.url());
    let began = Instant::now();
    let answers = post_many(&[&here, &there], 3 * limit as usize, 32).await;
    let (accepted, refused) = (count(&answers, 202), count(&answers, 429));
    assert_eq!(accepted + refused, 3 * limit, "nothing but these");
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        assert!((1..=120).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
    }
    assert!(accepted >= limit - lease(limit), "{accepted} of {limit}");
    assert!(accepted <= limit + slid(limit, began), "{accepted} of {limit}");
    assert_eq!(stack.events_in_log_of("tool_call_requested").await, accepted);
    accepted
}

#[tokio::test]
async fn two_replicas_admit_no_more_than_one_would() {
    two_replicas_admit(100, |settings| settings.rate_limit_per_minute = 100).await;
}

#[tokio::test]
async fn two_replicas_share_a_large_limit_within_one_lease() {
    two_replicas_admit(640, |settings| settings.rate_limit_per_minute = 640).await;
}

#[tokio::test]
async fn two_replicas_share_the_limit_of_a_tool() {
    two_replicas_admit(20, |settings| {
        settings.tool_rate_limits.insert("task.create".to_owned(), 20);
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_is_replaced_changes_no_count() {
    let stack = Stack::new().await;
    let limit = |settings: &mut toolgate::settings::Settings| settings.rate_limit_per_minute = 10;
    let mut one = TestApp::on(stack.clone(), limit).await;
    let tenant = Tenant::new();
    let token = Token::of(tenant, "admin").sign(stack.issuer());
    let began = Instant::now();
    let first = Client::new(one.url(), tenant, token.clone());
    for number in 0..6 {
        assert_eq!(first.call(&format!("a{number}"), &crate::app::task()).await.status, 202);
    }
    one.stop().await;
    // What it has left behind is the next one's.
    one.leaves_work();
    let two = TestApp::on(stack.clone(), limit).await;
    let second = Client::new(two.url(), tenant, token);
    let mut accepted = 0;
    for number in 0..10 {
        accepted += u64::from(second.call(&format!("b{number}"), &crate::app::task()).await.status == 202);
    }
    assert!((4..=4 + slid(10, began)).contains(&accepted), "{accepted}");
}
