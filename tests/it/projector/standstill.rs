//! A projection that stands still while its log moves turns the query API unready, which says why.

use sqlx::Executor;

use super::{Written, tenant_in};
use crate::app::{Child, Role, Stack, TableOwner, eventually, wait_until};

async fn readiness(api: &Child) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", api.url())).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn unready(api: &Child) -> String {
    eventually("readiness says no", async || {
        let (status, text) = readiness(api).await;
        (status == 503).then_some(text)
    })
    .await
}

#[tokio::test]
async fn without_a_projector_readiness_names_the_partition_and_that_nobody_owns_it() {
    let stack = Stack::new().await;
    let (api, mut projector) =
        tokio::join!(Child::start(&stack, Role::QueryApi, &[]), Child::start(&stack, Role::Projector, &[]),);
    wait_until("it is ready", async || readiness(&api).await.0 == 200).await;
    projector.kill().await;
    Written::request(&stack.log().await, tenant_in(2)).await;
    let reason = unready(&api).await;
    assert!(reason.contains("partition 02") && reason.contains("1 events behind: no projector owns it"), "{reason}");
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("it is ready again", async || readiness(&api).await.0 == 200).await;
}

#[tokio::test]
async fn a_database_that_refuses_what_is_projected_is_named_until_it_takes_it() {
    let stack = Stack::new().await;
    let (api, _projector) = tokio::join!(Child::start(&stack, Role::QueryApi, &[]), Child::start(&stack, Role::Projector, &[]),);
    wait_until("it is ready", async || readiness(&api).await.0 == 200).await;
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    superuser.execute("revoke insert on audit_event from toolgate_projector").await.unwrap();
    Written::request(&stack.log().await, tenant_in(1)).await;
    let reason = unready(&api).await;
    assert!(reason.contains("partition 01") && reason.contains("the database refuses what is projected (42501)"), "{reason}");
    assert!(!reason.contains("audit_event"), "{reason}");

    superuser.execute("grant insert on audit_event to toolgate_projector").await.unwrap();
    wait_until("it is ready again", async || readiness(&api).await.0 == 200).await;
    assert_eq!(stack.count("select count(*) from projection_checkpoint where halted_reason is not null").await, 0);
}
