use crate::{
    app::{Child, Role, Stack},
    replay::{generated::append, left_behind, projected, random::Story, replay, replay_with},
};

/// A rebuild that dies anywhere is gone on with, and a switch that dies is either done or not.
#[tokio::test]
async fn a_rebuild_that_dies_is_gone_on_with() {
    let stack = Stack::new().await;
    let mut story = Story::new(7);
    append(&stack, story.tell(120)).await;
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    projected(&stack).await;
    let arguments = ["--switch", "--batch", "15"];
    for point in ["made", "written", "committed", "locked", "renamed", "switched"] {
        let point = format!("rebuild.{point}");
        let died = replay_with(&stack, &arguments, &[("TOOLGATE_CRASH_AT", &point)]).await;
        assert!(!died.status.success() && died.status.code() != Some(1), "it was to die at {point}: {died:#?}");
        append(&stack, story.tell(20)).await;
        projected(&stack).await;
    }
    replay(&stack, &arguments).await.succeeded();
    assert_eq!(left_behind(&stack).await, 0);
    let checked = replay(&stack, &["--check"]).await.succeeded();
    assert_eq!(checked.verdicts().1, [""; 0]);
}

#[tokio::test]
async fn what_was_paused_can_be_dropped_or_begun_anew() {
    let stack = Stack::new().await;
    append(&stack, Story::new(8).tell(60)).await;
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    projected(&stack).await;
    replay(&stack, &[]).await.succeeded();
    assert_eq!(left_behind(&stack).await, 1);
    let again = replay(&stack, &[]).await.succeeded();
    assert!(again.stderr.contains("going on with what is there") && again.stderr.contains("replayed 0 events"), "{again:#?}");
    let fresh = replay(&stack, &["--fresh"]).await.succeeded();
    assert!(fresh.stderr.contains("replayed 60 events"), "{fresh:#?}");
    replay(&stack, &["--discard"]).await.succeeded();
    assert_eq!(left_behind(&stack).await, 0);
}
