//! A log whose files lost or changed bytes, on a server of its own.

use std::{fs, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use secrecy::ExposeSecret;
use sqlx::{Executor, PgPool};
use toolgate::services::Services;
use toolgate_events::{CallSubject, DataErased, Envelope, Lane, Partition};
use toolgate_projector::Archiver;
use toolgate_store::{Archive, Clock, Expect, Log, Received};
use uuid::Uuid;

use super::{Written, projected, samples, tenant_in, toolgate};
use crate::app::{Child, Role, Stack, TableOwner, Tenant, eventually, publish_raw, wait_until};

/// Once in each event; what was said is sealed.
const TEXT: &str = "\"event_type\":\"tool_call_requested\"";

/// The newest file with messages of a partition.
fn block(services: &Services, partition: u16) -> PathBuf {
    let stream =
        services.temporary_dir().unwrap().path().join("nats/jetstream/$G/streams").join(format!("EVENTS_{partition:02}"));
    let mut blocks: Vec<_> = fs::read_dir(stream.join("msgs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "blk"))
        .collect();
    blocks.sort();
    blocks.pop().unwrap()
}

/// Where a text begins in the file the `nth` time, counted from 0.
fn find(bytes: &[u8], text: &str, nth: usize) -> usize {
    bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text.as_bytes()).nth(nth).unwrap().0
}

async fn halted_reason(stack: &Stack, partition: u16) -> String {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    eventually("the partition is halted", async || {
        sqlx::query_scalar::<_, Option<String>>("select halted_reason from projection_checkpoint where partition = $1")
            .bind(i32::from(partition))
            .fetch_optional(&mut superuser)
            .await
            .unwrap()
            .flatten()
    })
    .await
}

/// Twenty calls in one partition are projected; then the server's file of it is changed while nobody runs.
async fn damaged(stops_in_order: bool, damage: impl Fn(&mut Vec<u8>)) -> (Stack, Services, Child, String) {
    let (stack, mut services) = Stack::private(false).await;
    let log = stack.log().await;
    for _ in 0..20 {
        Written::request(&log, tenant_in(1)).await;
    }
    drop(log);
    let mut projector = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("all is projected", async || projected(&stack).await == 20).await;
    projector.kill().await;
    let path = block(&services, 1);
    let nats = services.nats_mut().unwrap();
    if stops_in_order {
        nats.stop().await
    } else {
        nats.kill().await
    }
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    nats.restart().await.unwrap();

    let variables = [("TOOLGATE_AUDIT_VERIFY_EVENTS_PER_SECOND", "0")];
    let projector = Child::start(&stack, Role::Projector, &variables).await;
    let reason = halted_reason(&stack, 1).await;
    (stack, services, projector, reason)
}

/// The others go on, this one does not.
async fn assert_only_that_one_is_halted(stack: &Stack, projector: &Child) {
    let log = stack.log().await;
    Written::request(&log, tenant_in(1)).await;
    Written::request(&log, tenant_in(2)).await;
    wait_until("another partition is projected", async || projected(stack).await == 21).await;
    let halted = samples(&projector.url(), "projection_halted").await;
    assert_eq!(halted.get("{partition=\"1\"}"), Some(&1.0), "{halted:?}");
    assert_eq!(halted.values().sum::<f64>(), 1.0, "{halted:?}");
    let api = Child::start(stack, Role::QueryApi, &[]).await;
    let readiness = eventually("readiness says no", async || {
        let answer = reqwest::get(format!("{}/readyz", api.url())).await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status == 503 && text.contains("halted")).then_some(text)
    })
    .await;
    assert!(readiness.contains("partition 01 is halted since 20"), "{readiness}");
}

#[tokio::test]
async fn a_flipped_byte_halts_the_partition_when_the_server_died() {
    let (stack, _services, projector, reason) = damaged(false, |bytes| {
        let at = find(bytes, TEXT, 9);
        bytes[at] ^= 1;
    })
    .await;
    // The server drops the rest of the file, silently.
    assert_eq!(reason, "the log ends at 9, before the checkpoint at 20: it has lost events");
    assert_only_that_one_is_halted(&stack, &projector).await;
}

#[tokio::test]
async fn a_flipped_byte_halts_the_partition_when_the_server_was_stopped_in_order() {
    let (stack, _services, projector, reason) = damaged(true, |bytes| {
        let at = find(bytes, TEXT, 9);
        bytes[at] ^= 1;
    })
    .await;
    // The server goes by what it wrote down of the file when it stopped, and finds out when it is asked for the event.
    assert_eq!(reason, "event 10 is gone from the log");
    assert_only_that_one_is_halted(&stack, &projector).await;
}

#[tokio::test]
async fn a_file_that_was_cut_off_halts_the_partition() {
    let (stack, _services, projector, reason) = damaged(false, |bytes| bytes.truncate(bytes.len() / 2)).await;
    assert!(reason.contains("it has lost events"), "{reason}");
    assert_only_that_one_is_halted(&stack, &projector).await;
}

#[tokio::test]
async fn a_byte_that_flips_under_a_running_server_is_found_by_the_running_check() {
    let (stack, services) = Stack::private(false).await;
    let log = stack.log().await;
    for _ in 0..20 {
        Written::request(&log, tenant_in(1)).await;
    }
    let fast = [("TOOLGATE_AUDIT_VERIFY_EVENTS_PER_SECOND", "100000")];
    let projector = Child::start(&stack, Role::Projector, &fast).await;
    let agreed = async || samples(&projector.url(), "audit_chain_verified_position").await.get("{partition=\"1\"}").copied();
    wait_until("all is verified", async || agreed().await == Some(20.0)).await;
    let path = block(&services, 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = find(&bytes, TEXT, 9);
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let reason = halted_reason(&stack, 1).await;
    assert!(reason.contains("event 10"), "{reason}");
    assert_eq!(agreed().await, Some(9.0), "what agrees ends before it");
}

async fn restore(stack: &Stack) -> (bool, String) {
    let output = toolgate(stack, &["log", "restore", "--partition", "1"]).await;
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

const FAST: [(&str, &str); 1] = [("TOOLGATE_AUDIT_VERIFY_EVENTS_PER_SECOND", "100000")];

async fn until_verified(projector: &Child, upto: f64) {
    wait_until("all of it agrees", async || {
        let verified = samples(&projector.url(), "audit_chain_verified_position").await;
        verified.get("{partition=\"1\"}") == Some(&upto)
    })
    .await;
}

#[tokio::test]
async fn what_was_cut_off_is_put_back_from_the_trail_and_the_partition_goes_on_by_itself() {
    let (stack, _services, mut projector, _) = damaged(false, |bytes| bytes.truncate(bytes.len() / 2)).await;
    let (restored, said) = restore(&stack).await;
    assert!(restored && said.contains("events put back"), "{said}");
    let log = stack.log().await;
    Written::request(&log, tenant_in(1)).await;
    wait_until("it goes on", async || projected(&stack).await == 21).await;
    assert_eq!(stack.count("select count(*) from projection_checkpoint where halted_reason is not null").await, 0);
    let (again, said) = restore(&stack).await;
    assert!(again && said.contains("holds everything"), "{said}");
    projector.kill().await;
    until_verified(&Child::start(&stack, Role::Projector, &FAST).await, 21.0).await;
}

#[tokio::test]
async fn nothing_is_put_back_behind_an_event_that_took_the_place_of_a_lost_one() {
    let (stack, _services, _projector, _) = damaged(false, |bytes| bytes.truncate(bytes.len() / 2)).await;
    Written::request(&stack.log().await, tenant_in(1)).await;
    let (restored, said) = restore(&stack).await;
    assert!(!restored && said.contains("is not the one that was projected"), "{said}");
}

/// Some of the rows are in the archive, one event was never readable, and one message belonged to nobody.
#[tokio::test]
async fn a_stream_that_is_gone_is_made_again_whole_with_every_event_in_its_place() {
    let stack = Stack::new().await;
    let nats = &stack.connections.nats;
    let log = stack.log().await;
    let tenant = tenant_in(1);
    let mut call = Written::request(&log, tenant).await;
    call.start(&log).await;
    publish_raw(nats, "ev.01.nobody.task.x", b"{}").await;
    publish_raw(nats, &call.subject.to_string().replace(&call.id().to_string(), &Uuid::from_u128(5).to_string()), b"\xff").await;
    call.last.1 = 2;
    call.succeed(&log).await;
    for _ in 0..4 {
        Written::request(&log, tenant).await;
    }
    erase(&log, tenant).await;
    Written::request(&log, tenant).await;
    let mut projector = Child::start(&stack, Role::Projector, &FAST).await;
    until_verified(&projector, 11.0).await;
    projector.kill().await;
    let archiver = Archiver {
        archive: Archive::open(&log).await.unwrap(),
        rows: PgPool::connect(stack.connections.projector.expose_secret()).await.unwrap(),
        owner: PgPool::connect(stack.connections.owner.expose_secret()).await.unwrap(),
        segment_rows: 2,
    };
    assert_eq!(archiver.archive(tenant.id(), Clock::system().now() + TimeDelta::days(1)).await.unwrap().rows, 9);
    let before = messages(&log).await;

    let log = without_stream(&stack).await;
    let (restored, said) = restore(&stack).await;
    assert!(restored && said.contains("11 of 11 events put back"), "{said}");
    let after = messages(&log).await;
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(before.stream_sequence, after.stream_sequence);
        match before.stream_sequence {
            3 => assert_eq!(after.subject, "ev.01.lost.3", "it belonged to nobody"),
            // Its lane is known to nobody.
            4 => assert_eq!(before.payload, after.payload),
            _ => assert_eq!((&before.subject, &before.payload), (&after.subject, &after.payload)),
        }
    }
    let projector = Child::start(&stack, Role::Projector, &FAST).await;
    until_verified(&projector, 11.0).await;
    assert_eq!(stack.count("select count(*) from projection_checkpoint where halted_reason is not null").await, 0);
}

/// The record of an erasure, which is an aggregate of its own.
async fn erase(log: &Log, tenant: Tenant) {
    let erased = DataErased::of(Some("nobody"));
    let subject = CallSubject::new(4, tenant.id(), Lane::erasure(), erased.id(tenant.id()));
    let envelope = Envelope::of_erasure(erased, tenant.id(), Clock::system().stamp("operator", None, None)).unwrap();
    log.append(&subject, &envelope, Expect::NOTHING, None, Duration::from_secs(5)).await.unwrap();
}

/// The stream of partition 1 is taken away, and made again, empty.
async fn without_stream(stack: &Stack) -> Log {
    publish_raw(&stack.connections.nats, "$JS.API.STREAM.DELETE.EVENTS_01", b"").await;
    eventually("the stream is gone and made again", async || {
        let log = stack.log().await;
        (log.partition_state(Partition(1)).await.unwrap().last_sequence == 0).then_some(log)
    })
    .await
}

#[tokio::test]
async fn nothing_is_put_back_from_a_trail_that_does_not_prove_itself() {
    let stack = Stack::new().await;
    let (log, tenant) = (stack.log().await, tenant_in(1));
    for _ in 0..5 {
        Written::request(&log, tenant).await;
    }
    let mut projector = Child::start(&stack, Role::Projector, &FAST).await;
    until_verified(&projector, 5.0).await;
    projector.kill().await;
    let log = without_stream(&stack).await;
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    superuser.execute("create table kept as select * from audit_event; set session_replication_role = replica").await.unwrap();
    for (change, named) in [
        ("update audit_event set actor = 'nobody' where position = 2", "row 2: its hash does not match its content"),
        ("delete from audit_event where position = 2", "expected row 2, found row 3"),
        ("delete from audit_event where position = 5", "no row of event 5"),
        (
            "insert into audit_segment (tenant_id, first_position, last_position, prev_hash, hash, first_occurred_at, last_occurred_at,
                 size, sha256) select tenant_id, 1, 5, 'p', 'h', now(), now(), 1, 's' from audit_event limit 1",
            "the archive:",
        ),
    ] {
        superuser.execute(change).await.unwrap();
        let (restored, said) = restore(&stack).await;
        assert!(!restored && said.contains(named), "{change}: {said}");
        assert_eq!(log.partition_state(Partition(1)).await.unwrap().last_sequence, 0, "{change}");
        let undo = "delete from audit_segment; delete from audit_event; insert into audit_event select * from kept";
        superuser.execute(undo).await.unwrap();
    }
    let (restored, said) = restore(&stack).await;
    assert!(restored && said.contains("5 of 5 events put back"), "{said}");
}

async fn messages(log: &Log) -> Vec<Received> {
    let mut messages = Vec::new();
    for sequence in 1..=11 {
        messages.push(log.message_at(Partition(1), sequence).await.unwrap().unwrap());
    }
    messages
}
