//! A log whose files lost or changed bytes, on a server of its own.

use std::{fs, path::PathBuf};

use toolgate::services::Services;

use super::{Written, projected, samples, tenant_in};
use crate::app::{Child, Role, Stack, TableOwner, eventually, wait_until};

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
        let at = find(bytes, "From the log", 9);
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
        let at = find(bytes, "From the log", 9);
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
    let at = find(&bytes, "From the log", 9);
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let reason = halted_reason(&stack, 1).await;
    assert!(reason.contains("event 10"), "{reason}");
    assert_eq!(agreed().await, Some(9.0), "what agrees ends before it");
}
