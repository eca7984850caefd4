use sqlx::{Connection, Executor};

use super::{erase, say, tables_with, toolgate};
use crate::{
    app::{TableOwner, TestApp},
    replay::{left_behind, replay, replay_with},
};

/// What `toolgate replay` made beside the live tables, and left there.
#[tokio::test]
async fn what_lies_beside_the_live_tables_is_erased_with_them() {
    let app = TestApp::start().await;
    let stack = &app.stack;
    let client = app.admin();
    say(&client, "pirol8120", Some("patient-7")).await;
    let dies_at = |point| [("TOOLGATE_CRASH_AT", point)];
    for (arguments, point) in [("--check", "rebuild.committed"), ("--switch", "rebuild.switched")] {
        let died = replay_with(stack, &[arguments], &dies_at(point)).await;
        assert!(left_behind(stack).await > 0, "{died:?}");
    }
    let tables = tables_with(stack, "pirol8120").await;
    for schema in ["toolgate_check.", "toolgate_retired."] {
        assert!(tables.iter().any(|table| table.starts_with(schema)), "{tables:?}");
    }
    erase(stack, &client, &["--data-subject", "patient-7"]).await;
    assert_eq!((tables_with(stack, "pirol8120").await, left_behind(stack).await), (vec![], 0));

    // One that was paused.
    say(&client, "wendehals99", None).await;
    replay(stack, &[]).await.succeeded();
    assert!(tables_with(stack, "wendehals99").await.iter().any(|table| table.starts_with("toolgate_rebuild.")));
    erase(stack, &client, &[]).await;
    assert_eq!((tables_with(stack, "wendehals99").await, left_behind(stack).await), (vec![], 0));
}

#[tokio::test]
async fn an_erasure_is_not_complete_while_projections_are_made_anew() {
    let app = TestApp::start().await;
    let client = app.admin();
    say(&client, "kiebitz3003", None).await;
    let mut at_work = app.stack.connect(TableOwner::Superuser).await;
    at_work.execute("select pg_advisory_lock(x'54475242'::bigint)").await.unwrap();
    let tenant = client.tenant.0.to_string();
    let output = toolgate(&app.stack, &["tenant", "erase", "--tenant", &tenant, "--yes"], &[]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another `toolgate replay` is at work") && !said.contains("everything is erased"), "{said}");
    at_work.close().await.unwrap();
    erase(&app.stack, &client, &[]).await;
}
