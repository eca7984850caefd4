use secrecy::ExposeSecret;
use sqlx::Executor;

use super::{erase, toolgate};
use crate::app::{TableOwner, TestApp, task_titled};

/// As when an older release has parked the erasure: it has passed it, and nothing has followed.
#[tokio::test]
async fn an_erasure_that_is_parked_is_not_said_to_be_done_and_follows_with_a_retry() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task_titled("zilpzalp55")).await.json();
    client.get_projected(&call).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("create temporary table kept as select * from task").await.unwrap();
    erase(&app.stack, &client, &[]).await;
    let as_if = "insert into task select * from kept; delete from erasure;
        insert into parked_event (tenant_id, stream_sequence, position, aggregate_id, reason)
        select tenant_id, stream_sequence, position, aggregate_id, 'unknown event type' from audit_event where event_type = 'data_erased'";
    superuser.execute(as_if).await.unwrap();

    let tenant = client.tenant.0.to_string();
    let again = toolgate(&app.stack, &["tenant", "erase", "--tenant", &tenant, "--yes"], &[]).await;
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.code() == Some(1) && said.contains("the erasure itself is parked"), "{said}");

    let projector = [("DATABASE_URL_PROJECTOR", app.stack.connections.projector.expose_secret())];
    let retried = toolgate(&app.stack, &["parked", "retry", "--tenant", &tenant], &projector).await;
    assert!(retried.status.success(), "{retried:?}");
    for (table, rows) in [("task", 0), ("parked_event", 0), ("erasure", 1)] {
        assert_eq!(app.stack.count(&format!("select count(*) from {table}")).await, rows, "{table}");
    }
    erase(&app.stack, &client, &[]).await;
}
