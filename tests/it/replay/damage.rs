use sqlx::{Connection, Executor};

use crate::{
    app::{Child, Role, Stack, TableOwner},
    replay::{generated::append, left_behind, projected, random::Story, replay},
};

/// One row of each projection, changed behind the projector's back: the column, and what it becomes.
const DAMAGE: &[(&str, &str, &str)] = &[
    ("audit_event", "actor", "'mallory'"),
    ("document", "title", "'forged'"),
    ("erasure", "position", "99"),
    ("knowledge_document", "source", "'forged'"),
    ("knowledge_index", "metadata", "'{\"forged\": true}'"),
    ("parked_event", "reason", "'forged'"),
    ("session", "calls", "99"),
    ("session_tool", "calls", "99"),
    ("task", "title", "'forged'"),
    ("task_change", "comment", "'forged'"),
    ("template_version", "markdown", "'forged'"),
    ("tool_call", "attempts", "99"),
    ("usage_day", "requested", "99"),
    ("vector_collection", "created_at", "now()"),
    ("vector_item", "metadata", "'{\"forged\": true}'"),
];

async fn damage(stack: &Stack, statement: &str) {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    // Neither triggers nor foreign keys stand in the way of a disk.
    superuser.execute("set session_replication_role = replica").await.unwrap();
    assert!(superuser.execute(statement).await.unwrap().rows_affected() > 0, "nothing to damage: {statement}");
    superuser.close().await.unwrap();
}

async fn with_history() -> (Stack, Child) {
    let stack = Stack::new().await;
    append(&stack, Story::new(3).tell(1000)).await;
    let projector = Child::start(&stack, Role::Projector, &[]).await;
    projected(&stack).await;
    (stack, projector)
}

#[tokio::test]
async fn a_damaged_row_of_any_projection_is_named_and_mended() {
    let (stack, _projector) = with_history().await;
    let mut damaged = Vec::new();
    for (table, column, value) in DAMAGE {
        damage(&stack, &format!("update {table} set {column} = {value} where ctid = (select min(ctid) from {table})")).await;
        damaged.push(*table);
        let found = replay(&stack, &["--check"]).await.failed();
        assert_eq!(found.verdicts().1, damaged, "{found:#?}");
        assert!(
            found.stdout.lines().any(|line| line.starts_with(&format!("  {table}, row (")) && line.contains(column)),
            "{found:#?}"
        );
        assert!(found.stderr.contains(table), "{found:#?}");
        assert_eq!(left_behind(&stack).await, 0);
    }
    let all: Vec<_> = replay(&stack, &["--check"]).await.failed().verdicts().1.into_iter().map(str::to_owned).collect();
    assert_eq!(all, damaged, "every projection is among them");

    replay(&stack, &["--switch"]).await.failed();
    assert!(replay(&stack, &["--check"]).await.status.code() == Some(1), "nothing was switched");
    replay(&stack, &["--switch", "--repair"]).await.succeeded();
    let mended = replay(&stack, &["--check"]).await.succeeded();
    assert_eq!(mended.verdicts().0, damaged);
}

#[tokio::test]
async fn a_row_that_is_missing_and_one_that_no_event_made_are_told_apart() {
    let (stack, _projector) = with_history().await;
    damage(&stack, "delete from task where ctid = (select min(ctid) from task)").await;
    let found = replay(&stack, &["--check"]).await.failed();
    assert!(found.stdout.contains("it is missing"), "{found:#?}");
    damage(&stack, "insert into task_change select gen_random_uuid(), task_id, version, call_id, previous_status, status, comment, changed_at, position from task_change limit 1").await;
    let found = replay(&stack, &["--check", "--projection", "task_change"]).await.failed();
    assert_eq!(found.verdicts(), (vec![], vec!["task_change"]));
    assert!(found.stdout.contains("no event made it"), "{found:#?}");
    let unknown = replay(&stack, &["--check", "--projection", "tasks"]).await.failed();
    assert!(
        unknown.stderr.contains("there is no projection \"tasks\"") && unknown.stderr.contains("task_change"),
        "{unknown:#?}"
    );
}

/// Where live has projected what the rebuilt set aside, an operator has to say that this is meant.
#[tokio::test]
async fn what_would_be_set_aside_by_a_switch_has_to_be_allowed() {
    let (stack, _projector) = with_history().await;
    damage(&stack, "delete from parked_event where ctid = (select min(ctid) from parked_event)").await;
    let refused = replay(&stack, &["--switch", "--repair"]).await.failed();
    assert!(refused.stderr.contains("--allow-parked"), "{refused:#?}");
    replay(&stack, &["--switch", "--repair", "--allow-parked"]).await.succeeded();
    replay(&stack, &["--check"]).await.succeeded();
}

#[tokio::test]
async fn a_switch_does_not_take_away_what_somebody_made_by_hand() {
    let (stack, _projector) = with_history().await;
    let mut owner = stack.connect(TableOwner::Owner).await;
    owner.execute("create table own_notes (id int primary key)").await.unwrap();
    owner.execute("create index own_index on task (tenant_id, title)").await.unwrap();
    let refused = replay(&stack, &["--switch"]).await.failed();
    assert!(refused.stderr.contains("own_notes") && refused.stderr.contains("own_index"), "{refused:#?}");
    owner.execute("drop table own_notes; drop index own_index").await.unwrap();
    replay(&stack, &["--switch"]).await.succeeded();
}

#[tokio::test]
async fn there_is_one_rebuild_at_a_time() {
    let (stack, _projector) = with_history().await;
    let mut other = stack.connect(TableOwner::Owner).await;
    sqlx::query("select pg_advisory_lock($1)").bind(0x5447_5242_i64).execute(&mut other).await.unwrap();
    for arguments in [&["--check"][..], &["--switch"], &["--discard"], &[]] {
        let refused = replay(&stack, arguments).await.failed();
        assert!(refused.stderr.contains("another `toolgate replay`"), "{refused:#?}");
    }
}
