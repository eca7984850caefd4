use sqlx::Executor;

use crate::{
    app::{TableOwner, TestApp},
    archive::{archiver, now, with_history},
    replay::{projected, replay},
};

/// The trail is in two places. What left the table is compared by the hash at its end, and a switch forgets none of it.
#[tokio::test]
async fn an_archived_trail_is_compared_and_switched_like_any_other() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    projected(&app.stack).await;
    archiver(&app.stack).await.archive(client.tenant.id(), now()).await.unwrap();
    let trail = client.audit().await;
    let listed = "select count(*) from audit_segment";
    let segments = app.stack.count(listed).await;
    assert!(segments > 0 && app.stack.count("select min(position) from audit_event").await > 1);

    replay(&app.stack, &["--check"]).await.succeeded();
    let gap = replay(&app.stack, &["--check", "--from", "audit"]).await.failed();
    assert!(gap.stderr.contains("has no row 1;"), "{gap:#?}");
    let shown = replay(&app.stack, &["--tenant", &client.tenant.0.to_string()]).await.succeeded();
    assert!(shown.stderr.contains("are in the archive"), "{shown:#?}");

    replay(&app.stack, &["--switch"]).await.succeeded();
    assert_eq!(app.stack.count(listed).await, segments);
    assert_eq!(client.audit().await, trail);
    // The rows are in the table again until the next run takes them out.
    archiver(&app.stack).await.archive(client.tenant.id(), now()).await.unwrap();
    assert_eq!(client.audit().await, trail);
    replay(&app.stack, &["--check"]).await.succeeded();

    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("update audit_segment set hash = 'forged'").await.unwrap();
    let found = replay(&app.stack, &["--check"]).await.failed();
    assert_eq!(found.verdicts().1, ["audit_event"]);
    assert!(found.stdout.contains("what is archived up to here ends with another hash"), "{found:#?}");
}
