//! Changed exports: whatever was changed, both verifiers find it and name the same row.

use serde_json::{Value, json};
use toolgate_events::{TenantId, audit::AuditRow};
use toolgate_store::Clock;
use uuid::Uuid;

use super::judge::{Case, Heads, assert_found, lines, rows};
use crate::app::{Client, TestApp, post_mixed, task, wait_until};

const MEMBERS: [&str; 15] = [
    "position",
    "stream_sequence",
    "event_id",
    "event_type",
    "event_version",
    "aggregate_type",
    "aggregate_id",
    "aggregate_sequence",
    "actor",
    "occurred_at",
    "correlation_id",
    "causation_id",
    "data",
    "prev_hash",
    "hash",
];

async fn export(client: &Client) -> Vec<u8> {
    let answer = client.get("/v1/audit/export").await;
    assert_eq!(answer.status, 200);
    answer.body
}

/// The export of a real history of some calls.
async fn history(app: &TestApp, client: &Client, calls: usize) -> Vec<u8> {
    assert_eq!(post_mixed(client, calls, 4, |_| ()).await.len(), calls);
    let outcomes = "select count(*) from audit_event where event_type in ('tool_call_succeeded', 'tool_call_failed')";
    let calls = i64::try_from(calls).unwrap();
    wait_until("every call has an outcome", async || app.stack.count(outcomes).await == calls).await;
    export(client).await
}

/// The member with another value that it could have.
fn with_another(row: &AuditRow, member: &str) -> AuditRow {
    let mut row = row.clone();
    match member {
        "position" => row.position += 1_000,
        "stream_sequence" => row.stream_sequence += 1,
        "event_id" => row.event_id = Uuid::nil(),
        "event_type" => row.event_type.push('x'),
        "event_version" => row.event_version += 1,
        "aggregate_type" => row.aggregate_type.clear(),
        "aggregate_id" => row.aggregate_id = Uuid::nil(),
        "aggregate_sequence" => row.aggregate_sequence += 1,
        "actor" => row.actor.push('\u{1}'),
        "occurred_at" => row.occurred_at += chrono::Duration::microseconds(1),
        "correlation_id" => row.correlation_id = Uuid::max(),
        "causation_id" => row.causation_id = row.causation_id.xor(Some(Uuid::nil())),
        "data" => row.data = json!({"was": row.data}),
        "prev_hash" => row.prev_hash = row.hash.clone(),
        _ => row.hash = row.prev_hash.clone(),
    }
    row
}

fn case(name: String, rows: &[AuditRow], line: u64, row: u64) -> Case {
    Case { name, export: lines(rows), found: Some((line, row)) }
}

#[tokio::test]
async fn rows_that_were_changed_dropped_swapped_or_inserted_are_named_by_both() {
    let app = TestApp::start().await;
    let client = app.admin();
    let export = history(&app, &client, 12).await;
    let rows = rows(&export);
    assert_eq!(lines(&rows), export, "an export is canonical");
    let mut cases = vec![Case { name: "as it was".to_owned(), export, found: None }];
    let mut forged = cases.clone();
    let count = rows.len();
    for at in 0..count {
        let place = at as u64 + 1;
        let mut add = |name: &str, place: u64, row: u64, change: &dyn Fn(&mut Vec<AuditRow>)| {
            let mut rows = rows.clone();
            change(&mut rows);
            cases.push(case(format!("{name} {}", at + 1), &rows, place, row));
        };
        for member in MEMBERS {
            add(member, place, place, &|rows| rows[at] = with_another(&rows[at], member));
        }
        add("inserted before", place, place, &|rows| rows.insert(at, with_another(&rows[at], "event_id")));
        add("repeated", place + 1, place, &|rows| rows.insert(at, rows[at].clone()));
        if at + 1 < count {
            add("dropped", place, place, &|rows| drop(rows.remove(at)));
            add("swapped", place, place, &|rows| rows.swap(at, at + 1));
        }
        // Somebody who knows how hashes are made.
        for member in MEMBERS.into_iter().filter(|member| *member != "hash") {
            let mut rows = rows.clone();
            rows[at] = with_another(&rows[at], member);
            rows[at].hash = rows[at].expected_hash();
            forged.push(case(format!("{member} of {place} with a new hash"), &rows, place, place));
        }
        let mut rewritten = rows.clone();
        rewritten[at].actor = "somebody else".to_owned();
        for later in at..count {
            if later > at {
                rewritten[later].prev_hash = rewritten[later - 1].hash.clone();
            }
            rewritten[later].hash = rewritten[later].expected_hash();
        }
        forged.push(case(format!("all from {place} on written anew"), &rewritten, place, place));
        forged.push(case(format!("cut off before {place}"), &rows[..at], place, place));
    }
    let tenant = client.tenant.id();
    assert_found(tenant, &Heads::default(), &cases);
    let heads = rows.iter().map(|row| (row.position, row.hash.clone())).collect();
    cases.extend(forged);
    assert_found(tenant, &Heads(heads), &cases);
}

#[tokio::test]
async fn every_byte_of_a_small_export_counts() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await.json();
    client.get_projected(&call).await;
    let export = export(&client).await;
    let cases = (0..export.len()).flat_map(|at| flips(&export, at)).collect::<Vec<_>>();
    assert!(cases.len() > 3 * 1_000, "{}", cases.len());
    assert_found(client.tenant.id(), &Heads::default(), &cases);
}

#[tokio::test]
async fn bytes_anywhere_in_a_longer_export_count() {
    let app = TestApp::start().await;
    let client = app.admin();
    let export = history(&app, &client, 40).await;
    // Other bytes in every run; the seed says which.
    let seed = Clock::system().new_id().as_u128();
    println!("seed {seed}");
    let places = (0..150u128).map(|number| Uuid::new_v5(&Uuid::from_u128(seed), &number.to_be_bytes()).as_u128());
    let cases: Vec<_> = places.flat_map(|place| flips(&export, (place % export.len() as u128) as usize)).collect();
    assert_found(client.tenant.id(), &Heads::default(), &cases);
}

/// One byte changed in several ways, taken away, and doubled.
fn flips(export: &[u8], at: usize) -> Vec<Case> {
    let row = 1 + export[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
    let found = Some((row, row));
    let with = |name: &str, bytes: &[u8]| {
        let export = [&export[..at], bytes, &export[at + 1..]].concat();
        Case { name: format!("byte {at} {name}"), export, found }
    };
    let byte = export[at];
    let mut cases = vec![with("^ 1", &[byte ^ 1]), with("^ 0x20", &[byte ^ 0x20]), with("taken away", &[])];
    cases.extend((byte != b'\n').then(|| with("a newline", b"\n")));
    // A second newline is a line of its own, and so is the beginning of the next.
    let doubled = if byte == b'\n' { Some((row + 1, row + 1)) } else { found };
    cases.push(Case { found: doubled, ..with("doubled", &[byte, byte]) });
    cases
}

#[tokio::test]
async fn another_tenants_rows_prove_nothing() {
    let app = TestApp::start().await;
    let (client, other) = (app.admin(), app.admin());
    for client in [&client, &other] {
        let call = client.call_and_wait("k", &task()).await.json();
        client.get_projected(&call).await;
    }
    let (own, theirs) = (rows(&export(&client).await), rows(&export(&other).await));
    let mixed = [&own[..1], &theirs[1..]].concat();
    let cases = [
        Case { name: "all of it".to_owned(), export: lines(&theirs), found: Some((1, 1)) },
        Case { name: "the end of it".to_owned(), export: lines(&mixed), found: Some((1, 1)) },
    ];
    assert_found(client.tenant.id(), &Heads::default(), &cases);
    let heads = Heads(vec![(1, own[0].hash.clone())]);
    let known = Case { found: Some((2, 2)), ..cases[1].clone() };
    assert_found(client.tenant.id(), &heads, &[known]);
    assert_found(
        TenantId(Uuid::nil()),
        &Heads::default(),
        &[Case { found: Some((1, 1)), export: lines(&own), name: "own".to_owned() }],
    );
}

#[tokio::test]
async fn hostile_exports_are_refused_by_both() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await.json();
    client.get_projected(&call).await;
    let export = String::from_utf8(export(&client).await).unwrap();
    let reseal = |change: &dyn Fn(&mut Value)| {
        let mut row: Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
        change(&mut row);
        row.as_object_mut().unwrap().remove("hash");
        row["hash"] = toolgate_events::canonical::sha256_hex(&row).into();
        format!("{}\n", toolgate_events::canonical::to_string(&row))
    };
    let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
    let hostile = [
        ("CRLF", export.replace('\n', "\r\n")),
        ("a byte order mark", format!("\u{feff}{export}")),
        ("white space", format!(" {export}")),
        ("an empty line", format!("\n{export}")),
        ("no object", "[]\n".to_owned()),
        ("not JSON", "{\"position\":\n".to_owned()),
        ("deep", format!("{}\n", "[".repeat(100_000))),
        ("a number that is none", export.replacen("\"event_version\":2", "\"event_version\":NaN", 1)),
        ("another spelling of a number", export.replacen("\"event_version\":2", "\"event_version\":2e0", 1)),
        ("another escape", export.replacen("task.create", "task\\u002ecreate", 1)),
        ("half a character", export.replacen("task.create", "\\ud800", 1)),
        ("upper case", export.replacen("\"hash\":\"", "\"hash\":\"A", 1)),
        ("a name twice", export.replacen("{\"actor\":", "{\"actor\":\"x\",\"actor\":", 1)),
        ("a member more", reseal(&|row| row["more"] = json!(1))),
        ("a position that is a number", reseal(&|row| row["position"] = json!(1))),
        ("a position with a zero in front", reseal(&|row| row["position"] = json!("01"))),
        ("a position beyond all", reseal(&|row| row["position"] = json!("18446744073709551616"))),
        ("a version that is a text", reseal(&|row| row["event_version"] = json!("2"))),
        ("an impossible time", reseal(&|row| row["occurred_at"] = json!("2026-02-30T00:00:00.000000Z"))),
        ("an id that is none", reseal(&|row| row["event_id"] = json!("x"))),
        ("a member that is missing", reseal(&|row| drop(row.as_object_mut().unwrap().remove("causation_id")))),
    ];
    let mut cases: Vec<_> = hostile
        .into_iter()
        .map(|(name, export)| Case { name: name.to_owned(), export: export.into_bytes(), found: Some((1, 1)) })
        .collect();
    cases.push(Case { name: "a huge line".to_owned(), export: vec![b'x'; 20 * 1024 * 1024], found: Some((1, 1)) });
    cases.push(Case {
        name: "nested deeply".to_owned(),
        export: reseal(&|row| row["data"] = deep.clone()).into_bytes(),
        found: Some((1, 1)),
    });
    assert_found(client.tenant.id(), &Heads(vec![(1, "00".to_owned())]), &cases);
}
