use serde_json::{Value, json};
use toolgate_events::{CallId, CallSubject, Envelope, Lane, Partition, ToolCallEvent};
use toolgate_store::{Clock, Expect, KeyError, Log, LogError, LogOptions, MasterKeys, Scope};

use super::{erase, say, toolgate};
use crate::app::{PARTITIONS, Stack, TableOwner, Tenant, TestApp, eventually, publish_raw, request, task_titled, wait_until};

fn with(master_keys: &str) -> LogOptions {
    LogOptions { master_keys: Some(MasterKeys::parse(master_keys).unwrap()), ..Stack::log_options() }
}

async fn open(stack: &Stack, options: &LogOptions) -> Result<Log, LogError> {
    Log::open(secrecy::ExposeSecret::expose_secret(&stack.connections.nats), options).await
}

#[tokio::test]
async fn another_master_key_is_refused_at_the_start_by_name() {
    let stack = Stack::new().await;
    stack.log().await;
    let refused = open(&stack, &with(&MasterKeys::generate().unwrap())).await.unwrap_err();
    assert!(matches!(refused, LogError::Keys(KeyError::UnknownMasterKey(_))), "{refused:?}");
    let file = std::fs::read_to_string(Stack::master_key_file()).unwrap();
    let mut same_name: Value = serde_json::from_str(&file).unwrap();
    same_name["keys"][0]["k"] = serde_json::from_str::<Value>(&MasterKeys::generate().unwrap()).unwrap()["keys"][0]["k"].clone();
    let refused = open(&stack, &with(&same_name.to_string())).await.unwrap_err();
    assert!(matches!(refused, LogError::Keys(KeyError::WrongMasterKey(_))), "{refused:?}");
    let output = toolgate(&stack, &["projector"], &[("TOOLGATE_MASTER_KEY_FILE", "/nonexistent/keys.json")]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/keys.json"), "{output:?}");
}

#[tokio::test]
async fn a_lost_key_store_is_noticed_at_the_start() {
    let stack = Stack::new().await;
    stack.log().await;
    publish_raw(&stack.connections.nats, "$JS.API.STREAM.DELETE.KEYS", b"").await;
    wait_until("it says that it is lost", async || {
        matches!(open(&stack, &Stack::log_options()).await, Err(LogError::Keys(KeyError::Lost)))
    })
    .await;
    let output = toolgate(&stack, &["projector"], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the key store is lost"), "{output:?}");
}

#[tokio::test]
async fn a_missing_key_delays_answers_and_the_projection_and_nothing_is_left_out() {
    let mut app = TestApp::start().await;
    app.leaves_work();
    let client = app.admin();
    let call = client.call_and_wait("k", &task_titled("sealed")).await.json();
    client.get_projected(&call).await;
    app.stop().await;
    // The check is the first message, and the tenant's key the second.
    publish_raw(&app.stack.connections.nats, "$JS.API.STREAM.MSG.DELETE.KEYS", br#"{"seq": 2}"#).await;
    app.start_again().await;
    let client = crate::app::Client::new(app.url(), client.tenant, client.token.clone());
    let path = format!("/v1/tool-calls/{}", call["call_id"].as_str().unwrap());
    client.get(&path).await.problem(503, "unavailable");
    client.get("/v1/audit?content=open").await.problem(503, "unavailable");
    assert_eq!(client.get("/v1/audit").await.status, 200, "what is recorded can be read without keys");
    assert_eq!(client.get("/v1/tasks").await.json()["items"][0]["title"], "sealed");
}

#[tokio::test]
async fn old_and_new_keys_open_and_a_key_is_known_again_across_a_rotation() {
    let app = TestApp::start().await;
    let client = app.admin();
    let artifact = say(&client, "vorher77", None).await;
    let body = task_titled("one call");
    let first = client.call_and_wait("same", &body).await.json();
    let tenant = client.tenant.0.to_string();
    let rotated = toolgate(&app.stack, &["keys", "rotate", "--tenant", &tenant], &[]).await;
    assert!(rotated.status.success(), "{rotated:?}");
    let kids = async || {
        let rows = client.audit().await;
        let jwe = |row: &Value| Some(row["data"]["arguments"]["jwe"].as_str()?.split('.').next()?.to_owned());
        let headers = rows.iter().filter_map(jwe).map(|header| {
            let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
            serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
        });
        headers.collect::<std::collections::BTreeSet<_>>()
    };
    let mut number = 0;
    wait_until("the new key seals", async || {
        number += 1;
        let call = client.call_and_wait(&format!("n{number}"), &body).await.json();
        client.get_projected(&call).await;
        kids().await.len() == 2
    })
    .await;
    let again = client.call_and_wait("same", &body).await;
    assert_eq!((again.header("idempotency-replayed"), &again.json()["call_id"]), ("true", &first["call_id"]));
    client.call_and_wait("same", &task_titled("another")).await.problem(422, "idempotency-mismatch");
    assert!(client.get("/v1/audit?limit=500&content=open").await.text().contains("vorher77"));
    assert!(client.get(&format!("/v1/artifacts/{artifact}")).await.text().contains("vorher77"));
    let listed = toolgate(&app.stack, &["keys", "list"], &[]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with(&tenant) && line.contains("2 keys")), "{listed}");
}

#[tokio::test]
async fn after_a_rewrap_the_old_master_key_is_needed_no_more() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let tenant = crate::app::Tenant::new().id();
    let before = log.keys().fingerprint(tenant, &Scope::tenant(), &json!({"a": 1})).await.unwrap();
    let new: Value = serde_json::from_str(&MasterKeys::generate().unwrap()).unwrap();
    let old: Value = serde_json::from_str(&std::fs::read_to_string(Stack::master_key_file()).unwrap()).unwrap();
    let both = json!({"keys": [new["keys"][0], old["keys"][0]]}).to_string();
    let log = open(&stack, &with(&both)).await.unwrap();
    assert_eq!(log.keys().custody().unwrap().rewrap().await.unwrap(), 1);
    let refused = open(&stack, &Stack::log_options()).await.unwrap_err();
    assert!(matches!(refused, LogError::Keys(KeyError::UnknownMasterKey(_))), "{refused:?}");
    let log = open(&stack, &with(&new.to_string())).await.unwrap();
    assert_eq!(log.keys().fingerprint(tenant, &Scope::tenant(), &json!({"a": 1})).await.unwrap(), before);
    assert_eq!(log.partitions(), PARTITIONS);
}

#[tokio::test]
async fn of_many_replicas_one_makes_the_first_key() {
    let stack = Stack::new().await;
    let tenant = crate::app::Tenant::new().id();
    let mut logs = Vec::new();
    for _ in 0..8 {
        logs.push(stack.log().await);
    }
    let prints = logs.iter().map(|log| async { log.keys().fingerprint(tenant, &Scope::tenant(), &json!({})).await.unwrap() });
    let prints = futures::future::join_all(prints).await;
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
}

/// Waits until the tenant's newest entry is seen to be none.
async fn damaged(stack: &Stack, tenant: Tenant) {
    wait_until("the entry is damaged", async || {
        let held = stack.log().await.keys().custody().unwrap().list().await.unwrap();
        held.iter().any(|held| held.tenant == tenant.id() && matches!(held.damage, Some(KeyError::Damaged(_))))
    })
    .await;
}

#[tokio::test]
async fn a_damaged_key_delays_its_partition_alone_and_nothing_is_lost_or_parked() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let tenant_in = |partition| std::iter::repeat_with(Tenant::new).find(|it| Partition::of(it.id(), 4).0 == partition).unwrap();
    // One projector's run has the partitions 1 and 3.
    let (before, hurt, beside) = (tenant_in(1), tenant_in(1), tenant_in(3));
    // The check is the first message of the key store, and these are the next.
    for tenant in [before, hurt, beside, before] {
        let subject = CallSubject::new(4, tenant.id(), Lane::new("task").unwrap(), CallId(Clock::system().new_id()));
        let requested = ToolCallEvent::ToolCallRequested(request("f"));
        let stamp = Clock::system().stamp("tester", None, None);
        let envelope = Envelope::seal(&requested, subject.tenant_id, subject.call_id, 1, stamp).unwrap();
        log.append(&subject, &envelope, Expect::NOTHING, None, std::time::Duration::from_secs(5)).await.unwrap();
    }
    publish_raw(&stack.connections.nats, &format!("keys.data.{}.tenant", hurt.0), b"no entry").await;
    damaged(&stack, hurt).await;

    let app = TestApp::on(stack, |_| ()).await;
    let count = async |what: &str, tenant: Tenant| {
        app.stack.count(&format!("select count(*) from {what} and tenant_id = '{}'", tenant.0)).await
    };
    wait_until("what can be opened is projected", async || {
        count("tool_call where finished_at is not null", beside).await == 1 && count("audit_event where true", before).await == 1
    })
    .await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let reason = eventually("the reason is on record", async || {
        let reasons: Vec<(i32, String)> = sqlx::query_as(
            "select partition, halted_reason from projection_checkpoint where halted_reason is not null and halted_sequence is null",
        )
        .fetch_all(&mut superuser)
        .await
        .unwrap();
        (!reasons.is_empty()).then_some(reasons)
    })
    .await;
    assert_eq!(reason.len(), 1, "{reason:?}");
    assert!(reason[0].0 == 1 && reason[0].1.contains("the event at 2 cannot be opened"), "{reason:?}");
    assert_eq!((count("audit_event where true", before).await, count("audit_event where true", hurt).await), (1, 0));

    publish_raw(&app.stack.connections.nats, "$JS.API.STREAM.MSG.DELETE.KEYS", br#"{"seq": 5}"#).await;
    wait_until("everything is projected, and run", async || {
        count("tool_call where status = 'succeeded'", hurt).await == 1
            && count("tool_call where status = 'succeeded'", before).await == 2
    })
    .await;
    assert_eq!(app.stack.count("select count(*) from parked_event").await, 0);
    assert_eq!(app.stack.count("select count(*) from projection_checkpoint where halted_reason is not null").await, 0);
}

#[tokio::test]
async fn who_has_no_master_key_cannot_say_that_keys_are_erased() {
    let app = TestApp::start().await;
    let client = app.admin();
    let artifact = say(&client, "zaunkoenig5", None).await;
    let forged = json!({"keys": [], "erased": {"at": "2026-01-01T00:00:00Z", "wrapped": "e30..AA.AA.AA"}});
    let subject = format!("keys.data.{}.tenant", client.tenant.0);
    publish_raw(&app.stack.connections.nats, &subject, forged.to_string().as_bytes()).await;
    damaged(&app.stack, client.tenant).await;
    let path = format!("/v1/artifacts/{artifact}");
    wait_until("no process remembers the key", async || client.get(&path).await.status == 503).await;
    client.get("/v1/tool-calls").await.problem(503, "unavailable");
    client.call("new", &task_titled("x")).await.problem(503, "unavailable");
    let listed = toolgate(&app.stack, &["keys", "list"], &[]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line.contains(&client.tenant.0.to_string()) && line.contains("damaged")), "{listed}");
    // Whoever has the master key may.
    erase(&app.stack, &client, &[]).await;
}

#[tokio::test]
async fn no_data_subject_gets_a_key_after_its_tenant_was_erased() {
    let stack = Stack::new().await;
    let tenant = Tenant::new().id();
    let log = stack.log().await;
    let scope = log.keys().scope_of(tenant, "patient-7").await.unwrap();
    log.keys().custody().unwrap().destroy(tenant, &Scope::tenant()).await.unwrap();
    // The first remembers the tenant's keys still, and the second never had them.
    for log in [log, stack.log().await] {
        let print = log.keys().fingerprint(tenant, &scope, &json!({})).await;
        assert!(matches!(print, Err(KeyError::Erased)), "{print:?}");
    }
    let custody = stack.log().await.keys().custody().unwrap();
    custody.destroy(tenant, &Scope::tenant()).await.unwrap();
    let held = custody.list().await.unwrap();
    assert!(held.iter().all(|held| held.entry.keys.is_empty() && held.entry.erased.is_some()), "{held:?}");
}

#[tokio::test]
async fn a_rewrap_takes_what_is_erased_along() {
    let stack = Stack::new().await;
    let tenant = Tenant::new().id();
    let log = stack.log().await;
    log.keys().fingerprint(tenant, &Scope::tenant(), &json!({})).await.unwrap();
    log.keys().custody().unwrap().destroy(tenant, &Scope::tenant()).await.unwrap();
    let new: Value = serde_json::from_str(&MasterKeys::generate().unwrap()).unwrap();
    let old: Value = serde_json::from_str(&std::fs::read_to_string(Stack::master_key_file()).unwrap()).unwrap();
    let both = json!({"keys": [new["keys"][0], old["keys"][0]]}).to_string();
    open(&stack, &with(&both)).await.unwrap().keys().custody().unwrap().rewrap().await.unwrap();
    let log = open(&stack, &with(&new.to_string())).await.unwrap();
    let print = log.keys().fingerprint(tenant, &Scope::tenant(), &json!({})).await;
    assert!(matches!(print, Err(KeyError::Erased)), "{print:?}");
}
