use sqlx::Executor;

use crate::{
    app::{TableOwner, TestApp},
    archive::{archiver, now, with_history},
    replay::{projected, replay},
};

/// The trail is in two places. What left the table is compared by the hash at its end, replayed like the rest, and a switch forgets
/// none of it.
#[tokio::test]
async fn an_archived_trail_is_compared_replayed_and_switched_like_any_other() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    projected(&app.stack).await;
    let trail = client.audit().await;
    let tenant = client.tenant.0.to_string();
    // It began before what stays in the table.
    let call = trail[3]["aggregate_id"].as_str().unwrap();
    let histories = async || {
        let all = replay(&app.stack, &["--tenant", &tenant]).await.succeeded();
        (all.stdout, replay(&app.stack, &["--tenant", &tenant, "--call", call]).await.succeeded().stdout)
    };
    let before = histories().await;
    archiver(&app.stack).await.archive(client.tenant.id(), now()).await.unwrap();
    let listed = "select count(*) from audit_segment";
    let segments = app.stack.count(listed).await;
    let first_in_table = "select min(position) from audit_event";
    let border = app.stack.count(first_in_table).await;
    assert!(segments > 0 && border > 1);

    replay(&app.stack, &["--check"]).await.succeeded();
    for batch in ["7", "5000"] {
        replay(&app.stack, &["--check", "--from", "audit", "--batch", batch]).await.succeeded();
    }
    assert_eq!(histories().await, before);

    for source in ["log", "audit"] {
        replay(&app.stack, &["--switch", "--from", source]).await.succeeded();
        assert_eq!(app.stack.count(listed).await, segments);
        assert_eq!(app.stack.count(first_in_table).await, border, "what is archived is not in the table again");
        assert_eq!(client.audit().await, trail);
        replay(&app.stack, &["--check"]).await.succeeded();
    }

    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("update audit_segment set hash = 'forged'").await.unwrap();
    let found = replay(&app.stack, &["--check"]).await.failed();
    assert_eq!(found.verdicts().1, ["audit_event"]);
    assert!(found.stdout.contains("what is archived up to here ends with another hash"), "{found:#?}");
    replay(&app.stack, &["--check", "--from", "audit"]).await.failed();

    // Without the list the log gives back the whole trail.
    let forget = "set session_replication_role = replica; delete from audit_segment; set session_replication_role = default";
    superuser.execute(forget).await.unwrap();
    replay(&app.stack, &["--switch", "--repair"]).await.succeeded();
    assert_eq!(app.stack.count(first_in_table).await, 1);
    assert_eq!(client.audit().await, trail);
}
