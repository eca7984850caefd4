use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use sqlx::Executor;
use toolgate_events::ErasureEvent;

use super::{erase, say, tables_with, toolgate, verify};
use crate::app::{Client, Stack, TableOwner, TestApp, eventually, publish_raw};

/// A word that no program would write by itself.
const CANARY: &str = "kanarienvogel7f3a";
const OTHERS: &str = "rotkehlchen9b21";

/// The files below a folder that hold some bytes, but for those that `left_out` names.
fn files_with(folder: &Path, word: &[u8], left_out: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if left_out.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            found.extend(files_with(&path, word, left_out));
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(word.len()).any(|window| window == word)) {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn after_a_tenant_is_erased_no_byte_of_it_is_found_and_its_chain_holds() {
    let (stack, services) = Stack::private(false).await;
    let app = TestApp::on(stack, |_| ()).await;
    let stack = &app.stack;
    let (client, other) = (app.admin(), app.admin());
    let artifact = say(&client, CANARY, None).await;
    let others_artifact = say(&other, OTHERS, None).await;
    let export = client.get("/v1/audit/export").await.text();
    let shown = client.get("/v1/tool-calls").await.text();
    assert!(shown.contains(CANARY), "it is shown to whoever may read it");
    assert!(client.get(&format!("/v1/artifacts/{artifact}")).await.text().contains(CANARY));
    assert!(!tables_with(stack, CANARY).await.is_empty(), "the read models hold it");
    let files = services.temporary_dir().unwrap().path().to_path_buf();
    assert_eq!(files_with(&files.join("nats"), CANARY.as_bytes(), &[]), [] as [PathBuf; 0], "the log never held it");
    let entries = stack.log().await.keys().custody().unwrap().list().await.unwrap();
    let wrapped = serde_json::to_value(&entries.iter().find(|held| held.tenant == client.tenant.id()).unwrap().entry).unwrap();
    let wrapped = wrapped["keys"][0]["wrapped"].as_str().unwrap().to_owned();
    assert!(!files_with(&files.join("nats"), wrapped.as_bytes(), &[]).is_empty(), "the key is among the files");

    erase(stack, &client, &[]).await;

    // The tenant's own are shut out, so its export is asked for as the database has it.
    client.get("/v1/tool-calls").await.problem(403, "forbidden");
    assert_eq!(tables_with(stack, CANARY).await, [] as [&str; 0]);
    let rows = rows_of(stack, &client).await;
    let last = rows.last().unwrap();
    assert_eq!((last.event_type.as_str(), &last.data), (ErasureEvent::ERASED, &json!({"scope": "tenant"})));
    assert!(!export.contains(CANARY), "an export from before is as unreadable as the log");
    let before = verify(&client, &export);
    assert_eq!(rows[..before.len()], before, "nothing that was exported has changed");
    let artifacts = toolgate_store::Artifacts::open(&stack.log().await).await.unwrap();
    assert!(artifacts.get(client.tenant.id(), artifact.parse().unwrap()).await.is_err());

    // On the disk too. What WAL may still hold is said in docs/audit/erasure.md.
    stack.connect(TableOwner::Superuser).await.execute("checkpoint").await.unwrap();
    assert_eq!(files_with(&files, CANARY.as_bytes(), &["pg_wal"]), [] as [PathBuf; 0]);
    assert_eq!(files_with(&files, wrapped.as_bytes(), &[]), [] as [PathBuf; 0], "the key was overwritten");

    // Looking through the files took its time, and connections that were idle meanwhile are closed.
    let [client, other] = [&client, &other].map(|client| Client::new(app.url(), client.tenant, client.token.clone()));
    // Another tenant has lost nothing, and its own frames show what it said.
    assert!(other.get(&format!("/v1/artifacts/{others_artifact}")).await.text().contains(OTHERS));
    let frames = other.events("?after=0", None).await.events(1).await;
    assert!(format!("{frames:?}").contains(OTHERS));
    assert!(other.get("/v1/audit?content=open").await.text().contains(OTHERS));
    assert!(!other.get("/v1/audit").await.text().contains(OTHERS));
    // Again: nothing more happens, and it is not let in again.
    erase(stack, &client, &[]).await;
    assert_eq!(rows_of(stack, &client).await.len(), rows.len());
    let tenant = client.tenant.0.to_string();
    let resumed = toolgate(stack, &["tenant", "resume", "--tenant", &tenant], &[]).await;
    assert_eq!(resumed.status.code(), Some(1));
    client.get("/v1/tool-calls").await.problem(403, "forbidden");
}

/// The tenant's audit rows, read by somebody who sees all, and verified.
async fn rows_of(stack: &Stack, client: &Client) -> Vec<toolgate_events::audit::AuditRow> {
    let mut connection = stack.connect(TableOwner::Superuser).await;
    let lines: Vec<String> = sqlx::query_scalar(
        r#"select json_build_object('position', position::text, 'stream_sequence', stream_sequence::text, 'event_id', event_id,
             'event_type', event_type, 'event_version', event_version, 'aggregate_type', aggregate_type, 'aggregate_id', aggregate_id,
             'aggregate_sequence', aggregate_sequence::text, 'actor', actor,
             'occurred_at', to_char(occurred_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
             'correlation_id', correlation_id, 'causation_id', causation_id, 'data', data, 'prev_hash', prev_hash, 'hash', hash)::text
           from audit_event where tenant_id = $1 order by position"#,
    )
    .bind(client.tenant.0)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    verify(client, &lines.join("\n"))
}

#[tokio::test]
async fn what_was_recorded_before_there_was_sealing_is_not_said_to_be_gone() {
    let app = TestApp::start().await;
    let client = app.admin();
    let mut event: serde_json::Value =
        serde_json::from_str(include_str!("../../../events/golden/tool_call_requested.v2.json")).unwrap();
    event["tenant_id"] = json!(client.tenant.0);
    event["aggregate_id"] = json!(uuid::Uuid::from_u128(7));
    let partition = toolgate_events::Partition::of(client.tenant.id(), app.stack.log().await.partitions());
    let subject = format!("ev.{partition}.{}.task.{}", client.tenant.0, uuid::Uuid::from_u128(7));
    publish_raw(&app.stack.connections.nats, &subject, event.to_string().as_bytes()).await;
    let call = format!("/v1/tool-calls/{}", uuid::Uuid::from_u128(7));
    eventually("it is run", async || client.get(&call).await.json()["finished_at"].is_string().then_some(())).await;
    let tenant = client.tenant.0.to_string();
    let output = toolgate(&app.stack, &["tenant", "erase", "--tenant", &tenant], &[]).await;
    assert_eq!(output.status.code(), Some(1), "not without --yes");
    let output = toolgate(&app.stack, &["tenant", "erase", "--tenant", &tenant, "--yes"], &[]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 events of the tenant were recorded before content was sealed"), "{said}");
}
