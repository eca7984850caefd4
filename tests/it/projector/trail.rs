//! The running check: log and audit trail, compared again and again.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures::future::join_all;
use secrecy::ExposeSecret;
use sqlx::{Executor, PgPool};
use toolgate_projector::Archiver;
use toolgate_store::{Archive, Clock};

use super::{Written, append, projected, samples, tenant_in};
use crate::app::{Child, Role, Stack, TableOwner, Tenant, eventually, wait_until};

const VERIFIED: &str = "audit_chain_verified_position";

/// As fast as it goes.
const FAST: [(&str, &str); 1] = [("TOOLGATE_AUDIT_VERIFY_EVENTS_PER_SECOND", "100000")];

/// What nobody but the owner of the machine can do to the trail.
async fn tamper(stack: &Stack, statement: &str) {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    superuser.execute(format!("set session_replication_role = replica; {statement}").as_str()).await.unwrap();
}

async fn halted_reason(stack: &Stack, partition: u16) -> Option<String> {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    sqlx::query_scalar("select halted_reason from projection_checkpoint where partition = $1")
        .bind(i32::from(partition))
        .fetch_one(&mut superuser)
        .await
        .unwrap()
}

async fn until_halted(stack: &Stack, partition: u16) -> String {
    eventually("the partition is halted", async || halted_reason(stack, partition).await).await
}

async fn verified(projector: &Child) -> BTreeMap<String, f64> {
    samples(&projector.url(), VERIFIED).await
}

/// Three events of a tenant in the partition, projected and seen to agree with the log.
async fn begin(partition: u16) -> (Stack, Tenant, Child) {
    let stack = Stack::new().await;
    let tenant = tenant_in(partition);
    let log = stack.log().await;
    let mut call = Written::request(&log, tenant).await;
    call.start(&log).await;
    call.succeed(&log).await;
    let projector = Child::start(&stack, Role::Projector, &FAST).await;
    let sample = format!("{{partition=\"{partition}\"}}");
    wait_until("the partition is verified", async || verified(&projector).await.get(&sample) == Some(&3.0)).await;
    (stack, tenant, projector)
}

#[tokio::test]
async fn a_row_that_was_changed_dropped_moved_or_made_up_is_found_and_named() {
    let cases: [(&str, &str, f64); 5] = [
        ("update audit_event set actor = 'nobody' where position = 2", "changed: its hash is not that of its content", 1.0),
        ("delete from audit_event where position = 2", "the audit row at position 2, of event 2, is gone", 1.0),
        ("delete from audit_event where position = 3", "the audit row at position 3, of event 3, is gone", 2.0),
        (
            "update audit_event set position = 5 where position = 2; update audit_event set position = 2 where position = 3;
             update audit_event set position = 3 where position = 5",
            "is gone",
            1.0,
        ),
        (
            "insert into audit_event select tenant_id, 4, 99, gen_random_uuid(), event_type, event_version, aggregate_type,
                 aggregate_id, 4, actor, occurred_at, correlation_id, causation_id, data, traceparent, hash, hash
             from audit_event where position = 3",
            "says that it is of event 99",
            3.0,
        ),
    ];
    join_all(cases.map(async |(statement, named, agrees_to)| {
        let (stack, tenant, projector) = begin(3).await;
        tamper(&stack, statement).await;
        let reason = until_halted(&stack, 3).await;
        assert!(reason.contains(named), "{statement}: {reason}");
        let sample = "{partition=\"3\"}".to_owned();
        wait_until("the metrics say so", async || {
            let halted = samples(&projector.url(), "projection_halted").await;
            let mismatches = samples(&projector.url(), "audit_chain_mismatches_total").await;
            halted.get(&sample) == Some(&1.0) && mismatches.values().sum::<f64>() >= 1.0
        })
        .await;
        let agreed = verified(&projector).await[&sample];
        assert!(agreed <= agrees_to, "{statement}: {agreed}");
        // It stays alone, and the others go on.
        let log = stack.log().await;
        let before = projected(&stack).await;
        Written::request(&log, tenant).await;
        Written::request(&log, tenant_in(2)).await;
        wait_until("another partition is projected", async || projected(&stack).await == before + 1).await;
        assert_eq!(samples(&projector.url(), "projection_halted").await.values().sum::<f64>(), 1.0);
    }))
    .await;
}

#[tokio::test]
async fn a_rewritten_chain_is_found_by_the_log_and_a_repaired_one_goes_on_by_itself() {
    let (stack, tenant, projector) = begin(1).await;
    // The hash of the changed row is right: whoever did this knows how the chain is made.
    let row = "select to_jsonb(a) - 'tenant_id' - 'traceparent' - 'hash' from audit_event a where position = 3";
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    let row: serde_json::Value = sqlx::query_scalar(row).fetch_one(&mut superuser).await.unwrap();
    let mut audit: toolgate_events::audit::AuditRow = {
        let mut row = row;
        for number in ["position", "stream_sequence", "aggregate_sequence"] {
            row[number] = serde_json::json!(row[number].to_string());
        }
        row["hash"] = serde_json::json!("");
        row["occurred_at"] = serde_json::json!("2026-01-01T00:00:00Z");
        serde_json::from_value(row).unwrap()
    };
    audit.actor = "nobody".to_owned();
    let read = "select occurred_at from audit_event where position = 3";
    audit.occurred_at = sqlx::query_scalar(read).fetch_one(&mut superuser).await.unwrap();
    let text: String =
        sqlx::query_scalar("select data::text from audit_event where position = 3").fetch_one(&mut superuser).await.unwrap();
    tamper(&stack, "create table kept as select * from audit_event where position = 3").await;
    let forged = audit.hash_over(&text);
    tamper(&stack, &format!("update audit_event set actor = 'nobody', hash = '{forged}' where position = 3")).await;
    let reason = until_halted(&stack, 1).await;
    assert_eq!(reason, "event 3 of the log differs from its audit row at position 3");

    Written::request(&stack.log().await, tenant).await;
    tamper(&stack, "update audit_event a set actor = k.actor, hash = k.hash from kept k where a.position = 3").await;
    wait_until("it goes on by itself", async || projected(&stack).await == 4).await;
    assert_eq!(halted_reason(&stack, 1).await, None);
    assert_eq!(samples(&projector.url(), "projection_halted").await["{partition=\"1\"}"], 0.0);
}

#[tokio::test]
async fn damage_that_lies_far_back_still_halts_after_a_restart() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    // 250 events in each of four partitions: more than are looked at before a partition goes on.
    append(&log, 1_000).await;
    let mut projector = Child::start(&stack, Role::Projector, &FAST).await;
    wait_until("the whole log is verified", async || {
        let verified = verified(&projector).await;
        verified.len() == 4 && verified.values().all(|place| *place == 250.0)
    })
    .await;
    projector.kill().await;
    let tenant = "select tenant_id from audit_event where stream_sequence = 5 and tenant_id = (
        select tenant_id from tool_call order by tenant_id limit 1)";
    tamper(&stack, &format!("update audit_event set actor = 'nobody' where position = 5 and tenant_id = ({tenant})")).await;
    let halted = "select count(*) from projection_checkpoint where halted_sequence = 5";
    let mut projector = Child::start(&stack, Role::Projector, &FAST).await;
    wait_until("it is found", async || stack.count(halted).await == 1).await;
    projector.kill().await;

    // Without the running check: what is on record is looked at all the same.
    let off = [("TOOLGATE_AUDIT_VERIFY_EVENTS_PER_SECOND", "0")];
    let mut projector = Child::start(&stack, Role::Projector, &off).await;
    append(&log, 4).await;
    wait_until("the others go on", async || projected(&stack).await == 1_003).await;
    assert_eq!(stack.count(halted).await, 1);
    assert_eq!(samples(&projector.url(), "projection_halted").await.values().sum::<f64>(), 1.0);
    projector.kill().await;

    tamper(&stack, "update audit_event set actor = 'tester' where actor = 'nobody'").await;
    let _projector = Child::start(&stack, Role::Projector, &off).await;
    wait_until("it goes on", async || projected(&stack).await == 1_004).await;
    assert_eq!(stack.count(halted).await, 0);
}

#[tokio::test]
async fn rows_that_left_the_table_for_the_archive_still_bind_the_log() {
    let (stack, tenant, mut projector) = begin(2).await;
    let log = stack.log().await;
    for _ in 0..7 {
        Written::request(&log, tenant).await;
    }
    wait_until("all is projected", async || projected(&stack).await == 10).await;
    let archiver = Archiver {
        archive: Archive::open(&log).await.unwrap(),
        rows: PgPool::connect(stack.connections.projector.expose_secret()).await.unwrap(),
        owner: PgPool::connect(stack.connections.owner.expose_secret()).await.unwrap(),
        segment_rows: 4,
    };
    let archived = archiver.archive(tenant.id(), Clock::system().now() + TimeDelta::days(1)).await.unwrap();
    assert_eq!((archived.segments, archived.rows), (3, 9));
    let sample = "{partition=\"2\"}".to_owned();
    wait_until("it agrees across the border", async || verified(&projector).await.get(&sample) == Some(&10.0)).await;
    // At the start as well, where less is in the table than is looked at.
    projector.kill().await;
    let projector = Child::start(&stack, Role::Projector, &FAST).await;
    wait_until("a new one agrees", async || verified(&projector).await.get(&sample) == Some(&10.0)).await;
    assert_eq!(halted_reason(&stack, 2).await, None);

    tamper(&stack, "create table kept as select * from audit_segment").await;
    tamper(&stack, "update audit_segment set hash = prev_hash where last_position = 8").await;
    let reason = until_halted(&stack, 2).await;
    assert_eq!(reason, "the log up to event 8 differs from the archived audit rows up to position 8");

    // No row of the places around it is in the table.
    tamper(&stack, "update audit_segment s set hash = k.hash from kept k where k.last_position = s.last_position").await;
    Written::request(&log, tenant).await;
    wait_until("it goes on by itself", async || projected(&stack).await == 2).await;
    assert_eq!(halted_reason(&stack, 2).await, None);
    wait_until("all of it agrees", async || verified(&projector).await.get(&sample) == Some(&11.0)).await;
}

#[tokio::test]
async fn a_line_in_the_list_of_segments_hides_no_row() {
    let segment = |first: u64, last: u64| {
        format!(
            "insert into audit_segment (tenant_id, first_position, last_position, prev_hash, hash, first_occurred_at,
                 last_occurred_at, size, sha256)
             select tenant_id, {first}, {last}, 'p', 'h', now(), now(), 1, 's' from audit_event limit 1;"
        )
    };
    let changed = "update audit_event set actor = 'nobody' where position = 1";
    let wrong_list = |position: u64| format!("the list of archived segments is wrong from position {position} on");
    let cases = [
        // The rows it speaks of are in the table: they are compared there.
        (segment(1, 2) + changed, "the audit row at position 1, of event 1, was changed".to_owned()),
        (segment(1, 3) + changed, wrong_list(1)),
        (segment(1, 1_000_000) + changed, wrong_list(1)),
        (segment(2, 2) + changed, wrong_list(2)),
        // The rows are gone, and nothing says what they were.
        (format!("{}delete from audit_event where position <= 2", segment(1, 2)), "differs from the archived".to_owned()),
    ];
    join_all(cases.map(async |(statement, named)| {
        let (stack, _, _projector) = begin(3).await;
        tamper(&stack, &statement).await;
        let reason = until_halted(&stack, 3).await;
        assert!(reason.contains(&named), "{statement}: {reason}");
    }))
    .await;
}
