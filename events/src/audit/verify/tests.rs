use aws_lc_rs::signature::Ed25519KeyPair;
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    Partition, TenantId,
    audit::{AuditCheckpoint, CheckpointError, Head, PublicKey, SigningKey},
};

const TENANT: TenantId = TenantId(Uuid::from_u128(7));

fn chain(tenant: TenantId, count: u64) -> Vec<AuditRow> {
    let mut prev_hash = genesis_hash(tenant);
    (1..=count)
        .map(|position| {
            let mut row = AuditRow {
                position,
                stream_sequence: 10 + position,
                event_id: Uuid::from_u128(position.into()),
                event_type: "tool_call_requested".to_owned(),
                event_version: 2,
                aggregate_type: "tool_call".to_owned(),
                aggregate_id: Uuid::from_u128(99),
                aggregate_sequence: position,
                actor: "tést \"er\"\u{1}".to_owned(),
                occurred_at: time(position),
                correlation_id: Uuid::from_u128(99),
                causation_id: (position > 1).then_some(Uuid::from_u128(98)),
                data: json!({"n": [position, 0.5, -1e30], "text": "a\nb/\\ü", "none": null}),
                prev_hash: std::mem::take(&mut prev_hash),
                hash: String::new(),
            };
            row.hash = row.expected_hash();
            prev_hash = row.hash.clone();
            row
        })
        .collect()
}

fn time(seconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + i64::try_from(seconds).unwrap(), 5_000).unwrap()
}

fn key(seed: u8) -> SigningKey {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    SigningKey::parse(&SigningKey::to_pem(pair.to_pkcs8v1().unwrap().as_ref()).unwrap()).unwrap()
}

fn checkpoint(tenant: TenantId, row: &AuditRow, key: &SigningKey) -> AuditCheckpoint {
    let (position, hash) = (row.position, row.hash.clone());
    let head = Head { tenant_id: tenant, position, hash, partition: Partition(3), stream_sequence: row.stream_sequence };
    AuditCheckpoint::sign(head, time(row.position), key)
}

fn signed(rows: &[AuditRow], positions: &[usize]) -> Signed {
    let mut signed = Signed::nothing(None);
    for position in positions {
        let line = checkpoint(TENANT, &rows[position - 1], &key(1)).to_line();
        signed.add(line.as_bytes(), &[key(1).public().clone()]).unwrap();
    }
    signed
}

fn export(rows: &[AuditRow]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.to_line().into_bytes()).collect()
}

fn verify(export: &[u8], first: u64, signed: Signed) -> Result<Summary, Finding> {
    let mut verifier = Verifier::new(first, signed);
    export.split_inclusive(|byte| *byte == b'\n').all(|line| verifier.take(line));
    verifier.finish()
}

/// What is found, as (line, position, what).
fn found(rows: &[AuditRow], signed: Signed) -> (u64, u64, What) {
    let Finding { line, position, what } = verify(&export(rows), 1, signed).unwrap_err();
    (line, position, what)
}

fn reseal(rows: &mut [AuditRow]) {
    for at in 0..rows.len() {
        if at > 0 {
            rows[at].prev_hash = rows[at - 1].hash.clone();
        }
        rows[at].hash = rows[at].expected_hash();
    }
}

#[test]
fn a_whole_export_is_proved_as_far_as_it_can_be() {
    let rows = chain(TENANT, 5);
    let bare = verify(&export(&rows), 1, Signed::default()).unwrap();
    assert_eq!((bare.first, bare.last, bare.attested, bare.is_anchored), (1, 5, None, false));
    assert_eq!(bare.hash.as_ref(), Some(&rows[4].hash));
    let of_tenant = verify(&export(&rows), 1, Signed::nothing(Some(TENANT))).unwrap();
    assert!(of_tenant.is_anchored);
    let attested = verify(&export(&rows), 1, signed(&rows, &[2, 4])).unwrap();
    assert_eq!((attested.last, attested.attested, attested.is_anchored), (5, Some(4), true));
    let part = verify(&export(&rows[2..]), 3, signed(&rows, &[2, 5])).unwrap();
    assert_eq!((part.first, part.attested, part.is_anchored), (3, Some(5), true));
    assert_eq!(verify(b"", 1, Signed::default()).unwrap().last, 0);
}

#[test]
fn every_flipped_byte_is_found_in_its_row() {
    let rows = chain(TENANT, 3);
    let export = export(&rows);
    for at in 0..export.len() {
        let position = 1 + export[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        for flip in [0x01, 0x20, 0x80, export[at] ^ b'\n'] {
            let mut changed = export.clone();
            changed[at] ^= flip;
            if flip != 0 {
                let finding = verify(&changed, 1, Signed::default()).unwrap_err();
                assert_eq!((finding.line, finding.position), (position, position), "byte {at} ^ {flip:#x}: {finding}");
            }
        }
    }
}

#[test]
fn rows_that_are_dropped_moved_inserted_or_cut_off_are_told_apart() {
    let rows = chain(TENANT, 6);
    let changed = |change: &dyn Fn(&mut Vec<AuditRow>)| {
        let mut rows = rows.clone();
        change(&mut rows);
        found(&rows, Signed::default())
    };
    assert_eq!(changed(&|rows| drop(rows.remove(2))), (3, 3, What::Dropped { to: 3 }));
    assert_eq!(changed(&|rows| drop(rows.drain(2..4))), (3, 3, What::Dropped { to: 4 }));
    assert_eq!(changed(&|rows| drop(rows.remove(0))), (1, 1, What::BeginsLater { at: 2 }));
    assert_eq!(changed(&|rows| rows.swap(2, 3)), (3, 3, What::Moved { to_line: 4 }));
    assert_eq!(changed(&|rows| rows.swap(0, 5)), (1, 1, What::Moved { to_line: 6 }));
    assert_eq!(changed(&|rows| rows.insert(3, rows[2].clone())), (4, 3, What::Inserted));
    assert_eq!(changed(&|rows| rows.push(rows[0].clone())), (7, 1, What::Inserted));
    assert_eq!(changed(&|rows| rows[2] = chain(TenantId(Uuid::nil()), 3).remove(2)), (2, 2, What::Unlinked));
    let cut =
        |count: usize, signed| verify(&export(&rows[..count]), 1, signed).map_err(|finding| (finding.position, finding.what));
    assert_eq!(cut(4, Signed::default()).unwrap().last, 4, "nothing but a checkpoint knows of the end");
    assert_eq!(cut(4, signed(&rows, &[3, 6])), Err((5, What::CutOff { to: 6 })));
    assert_eq!(cut(5, signed(&rows, &[6])), Err((6, What::CutOff { to: 6 })));
    assert_eq!(cut(0, signed(&rows, &[1])), Err((1, What::CutOff { to: 1 })));
    assert_eq!(cut(6, signed(&rows, &[6])).unwrap().attested, Some(6));
}

#[test]
fn a_history_with_new_hashes_is_found_by_what_was_signed() {
    let rows = chain(TENANT, 6);
    let mut rewritten = rows.clone();
    rewritten[2].actor = "somebody else".to_owned();
    reseal(&mut rewritten);
    assert!(verify(&export(&rewritten), 1, Signed::nothing(Some(TENANT))).is_ok(), "the chain alone cannot tell");
    for (positions, line, position, to) in [(&[3][..], 1, 1, 3), (&[2, 3, 6], 3, 3, 3), (&[1, 6], 2, 2, 6), (&[2, 5], 3, 3, 5)] {
        assert_eq!(
            found(&rewritten, signed(&rows, positions)),
            (line, position, What::Rewritten { signed: to }),
            "{positions:?}"
        );
    }
    // One row alone with a new hash does not fit its neighbour.
    let mut one = rows.clone();
    one[2].actor = "somebody else".to_owned();
    one[2].hash = one[2].expected_hash();
    assert_eq!(found(&one, Signed::default()), (3, 3, What::Unlinked));
    let mut link = rows.clone();
    link[3].prev_hash = rows[0].hash.clone();
    link[3].hash = link[3].expected_hash();
    assert_eq!(found(&link, signed(&rows, &[3])), (4, 4, What::Unlinked), "row 3 is known to be as it was");
}

#[test]
fn an_export_of_another_tenant_or_another_place_is_no_proof() {
    let rows = chain(TENANT, 3);
    let other = TenantId(Uuid::nil());
    assert_eq!(found(&rows, Signed::nothing(Some(other))), (1, 1, What::Foreign));
    let begins = |first, signed| verify(&export(&rows[1..]), first, signed).map_err(|finding| (finding.position, finding.what));
    assert_eq!(begins(1, Signed::default()), Err((1, What::BeginsLater { at: 2 })));
    assert_eq!(begins(3, Signed::default()), Err((2, What::Inserted)));
    assert!(begins(2, Signed::default()).is_ok_and(|summary| !summary.is_anchored));
    let foreign = chain(other, 1);
    let line = checkpoint(TENANT, &foreign[0], &key(1)).to_line();
    let mut signed = Signed::default();
    signed.add(line.as_bytes(), &[key(1).public().clone()]).unwrap();
    assert_eq!(begins(2, signed), Err((2, What::Foreign)));
}

#[test]
fn hostile_lines_get_one_sentence() {
    let row = chain(TENANT, 1).remove(0).to_line().trim_end().to_owned();
    let long = vec![b'x'; MAX_LINE];
    let deep = "[".repeat(10_000);
    let nested = row.replace("\"none\":null", &format!("\"none\":{}{}", "[".repeat(400), "]".repeat(400)));
    for (line, words) in [
        (format!("{row}\r\n").into_bytes(), "not spelled"),
        (format!(" {row}\n").into_bytes(), "not spelled"),
        (format!("\u{feff}{row}\n").into_bytes(), "not JSON"),
        (row.clone().into_bytes(), "does not end with a newline"),
        (format!("{}\n", row.replace("\"event_version\":2", "\"event_version\":2.0")).into_bytes(), "members"),
        (format!("{}\n", row.replace("0.5", "5e-1")).into_bytes(), "not spelled"),
        (format!("{}\n", row.replace("\"actor\"", "\"actor\":\"x\",\"actor\"")).into_bytes(), "members"),
        (format!("{}\n", row.replace("{\"n\"", "{\"n\":1,\"n\"")).into_bytes(), "not spelled"),
        (format!("{deep}\n").into_bytes(), "members"),
        (format!("{nested}\n").into_bytes(), "not JSON"),
        (b"\n".to_vec(), "not JSON"),
        (b"{}\n".to_vec(), "members"),
        (b"\xff\n".to_vec(), "UTF-8"),
        (long, "longer than any row"),
    ] {
        let finding = verify(&line, 1, Signed::default()).unwrap_err();
        let said = finding.to_string();
        assert!(said.starts_with("line 1, row 1: it was changed: ") && said.contains(words), "{said}");
    }
}

#[test]
fn checkpoints_count_only_when_a_known_key_signed_them_as_they_are() {
    let rows = chain(TENANT, 3);
    let (own, other) = (key(1), key(2));
    let keys = [own.public().clone()];
    let add = |signed: &mut Signed, line: &str, keys: &[PublicKey]| signed.add(line.as_bytes(), keys);
    let line = checkpoint(TENANT, &rows[1], &own).to_line();
    for at in 0..line.len() {
        for flip in [0x01, 0x20] {
            let mut changed = line.clone().into_bytes();
            changed[at] ^= flip;
            assert!(Signed::default().add(&changed, &keys).is_err(), "byte {at}");
        }
    }
    let foreign = checkpoint(TENANT, &rows[1], &other);
    let unknown = CheckpointError::UnknownKey { line: 1, key_id: other.public().id().to_owned() };
    assert_eq!(add(&mut Signed::default(), &foreign.to_line(), &keys), Err(unknown));
    let both = [own.public().clone(), other.public().clone()];
    assert_eq!(add(&mut Signed::default(), &foreign.to_line(), &both), Ok(()), "after a rotation both keys count");
    let mut borrowed = foreign;
    borrowed.key_id = own.public().id().to_owned();
    assert_eq!(add(&mut Signed::default(), &borrowed.to_line(), &both), Err(CheckpointError::Forged { line: 1 }));

    let mut signed = Signed::default();
    add(&mut signed, &line, &keys).unwrap();
    assert_eq!(add(&mut signed, &line, &keys), Ok(()), "twice is as good as once");
    let elsewhere = TenantId(Uuid::nil());
    let theirs = checkpoint(elsewhere, &rows[0], &own).to_line();
    let mixed = CheckpointError::AnotherTenant { line: 3, expected: TENANT, found: elsewhere };
    assert_eq!(add(&mut signed, &theirs, &keys), Err(mixed));
    let mut only = Signed::nothing(Some(TENANT));
    add(&mut only, &theirs, &keys).unwrap();
    assert_eq!(only.clone().complete(), Err(CheckpointError::Empty));
    let again = AuditRow { hash: rows[2].hash.clone(), ..rows[1].clone() };
    let contradiction = CheckpointError::Contradiction { earlier: 1, line: 4, position: 2 };
    assert_eq!(add(&mut signed, &checkpoint(TENANT, &again, &own).to_line(), &keys), Err(contradiction));
}

#[test]
fn the_example_of_the_format_comes_out() {
    let page = include_str!("../../../../docs/audit/format.md");
    let block = |number: usize| page.split("\n```").nth(2 * number + 1).unwrap().split_once('\n').unwrap().1.to_owned() + "\n";
    let (export, checkpoints, key) = (block(0), block(1), block(2));
    let tenant = "6f9619ff-8b86-5d01-b42d-00cf4fc964ff".parse().unwrap();
    assert!(page.contains(&format!("`{}`", genesis_hash(tenant))));
    let mut signed = Signed::nothing(Some(tenant));
    signed.add(checkpoints.as_bytes(), &PublicKey::parse(&key).unwrap()).unwrap();
    let summary = verify(export.as_bytes(), 1, signed.complete().unwrap()).unwrap();
    assert_eq!((summary.last, summary.attested, summary.is_anchored), (2, Some(2), true));
    for line in export.lines() {
        let row: AuditRow = serde_json::from_str(line).unwrap();
        let without_hash = line.replace(&format!("\"hash\":\"{}\",", row.hash), "");
        assert_eq!(
            row.hash,
            canonical::hex(&sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), without_hash)))
        );
    }
}
