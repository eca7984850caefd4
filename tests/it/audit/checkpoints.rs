//! Audit checkpoints: when they are signed, where they go, and what happens when something is away or dies.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use reqwest::Method;
use secrecy::ExposeSecret;
use sqlx::Executor;
use toolgate::{services::DataDir, settings::Settings};
use toolgate_events::{
    TenantId,
    audit::{AuditCheckpoint, Signed},
};
use toolgate_store::CheckpointBucket;

use super::judge::{Heads, found_here, key, key_pem};
use crate::{
    app::{Child, Client, Role, Stack, TableOwner, Tenant, TestApp, Token, eventually, send, task, wait_until},
    webhooks::{Receiver, SECRET},
};

/// A directory with a key, where checkpoints go to the folder `kept`.
struct Place(DataDir);

impl Place {
    fn new() -> Self {
        let place = Self(DataDir::temporary().unwrap());
        fs::write(place.key(), key_pem(1)).unwrap();
        place
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key")
    }

    fn kept(&self) -> PathBuf {
        self.0.path().join("kept")
    }

    /// What is in a tenant's file: all of it must be checkpoints that were signed here.
    fn lines(&self, tenant: TenantId) -> Vec<AuditCheckpoint> {
        lines(&self.kept().join(format!("{tenant}.jsonl")), tenant)
    }

    fn settings(&self) -> impl FnOnce(&mut Settings) + use<> {
        let (key, kept) = (self.key(), self.kept());
        move |settings| {
            settings.audit_key_file = Some(key);
            settings.audit_checkpoint_dir = Some(kept);
            settings.audit_checkpoint_seconds = 1;
        }
    }

    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("TOOLGATE_AUDIT_KEY_FILE", self.key().display().to_string()),
            ("TOOLGATE_AUDIT_CHECKPOINT_DIR", self.kept().display().to_string()),
            ("TOOLGATE_AUDIT_CHECKPOINT_SECONDS", "1".to_owned()),
            ("TOOLGATE_AUDIT_CHECKPOINT_BUCKET", "true".to_owned()),
        ]
    }
}

fn lines(path: &Path, tenant: TenantId) -> Vec<AuditCheckpoint> {
    let Ok(text) = fs::read(path) else { return Vec::new() };
    // The last line may be in the writing.
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut signed = Signed::nothing(Some(tenant));
    whole
        .map(|line| {
            signed.add(line, &[key(1).public().clone()]).unwrap();
            AuditCheckpoint::parse(line).unwrap()
        })
        .collect()
}

async fn call(client: &Client, key: &str) {
    let call = client.call_and_wait(key, &task()).await.json();
    client.get_projected(&call).await;
}

/// The end of a tenant's chain, as the table has it.
async fn head(stack: &Stack, tenant: TenantId) -> (u64, String) {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    let newest = "select position, hash from audit_event where tenant_id = $1 order by position desc limit 1";
    let (position, hash): (i64, String) = sqlx::query_as(newest).bind(tenant.0).fetch_one(&mut superuser).await.unwrap();
    (position.unsigned_abs(), hash)
}

async fn is_kept(place: &Place, stack: &Stack, tenant: TenantId) {
    let (position, hash) = head(stack, tenant).await;
    eventually("the file has the end of the chain", async || {
        place.lines(tenant).into_iter().find(|line| (line.position, &line.hash) == (position, &hash))
    })
    .await;
}

async fn is_in_bucket(stack: &Stack, tenant: TenantId) {
    let (position, hash) = head(stack, tenant).await;
    let bucket = CheckpointBucket::open(&stack.log().await).await.unwrap();
    let line = eventually("the bucket has the end of the chain", async || bucket.get(tenant, position).await.unwrap()).await;
    assert_eq!(AuditCheckpoint::parse(line.as_bytes()).unwrap().hash, hash);
}

async fn count(app: &TestApp, sink: &str, outcome: &str) -> u64 {
    counted(&app.admin(), sink, outcome).await
}

async fn counted(client: &Client, sink: &str, outcome: &str) -> u64 {
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    let sample = format!("audit_checkpoints_total{{sink=\"{sink}\",outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn every_chain_that_moved_is_signed_and_told_everywhere() {
    let (place, receiver) = (Place::new(), Receiver::start().await);
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    let settings = place.settings();
    let mut app = TestApp::start_with(|own| {
        settings(own);
        own.audit_checkpoint_bucket = true;
        own.audit_checkpoint_url = Some(url);
        own.audit_checkpoint_secret = Some(SECRET.to_owned().into());
        own.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    let (client, other) = (app.admin(), app.admin());
    for client in [&client, &other] {
        call(client, "a").await;
        is_kept(&place, &app.stack, client.tenant.id()).await;
        is_in_bucket(&app.stack, client.tenant.id()).await;
    }
    call(&client, "b").await;
    is_kept(&place, &app.stack, client.tenant.id()).await;
    let tenant = client.tenant.id();
    let signed = place.lines(tenant);
    let newest = signed.last().unwrap();
    assert_eq!(newest.partition, toolgate_events::Partition::of(tenant, crate::app::PARTITIONS).0);
    let told = eventually("the receiver is told", async || {
        receiver.told().into_iter().find(|told| told.body["data"]["hash"] == newest.hash.as_str())
    })
    .await;
    assert_eq!(told.body["type"], "audit.checkpoint");
    let line = toolgate_events::canonical::to_string(&told.body["data"]) + "\n";
    Signed::nothing(Some(tenant)).add(line.as_bytes(), &[key(1).public().clone()]).unwrap();
    let ids: BTreeSet<_> = receiver.told().into_iter().map(|told| told.id).collect();
    assert_eq!(ids.len(), receiver.told().len(), "each is told once");
    for sink in ["file", "bucket", "webhook"] {
        wait_until("all of it is counted", async || count(&app, sink, "written").await >= 3).await;
        assert_eq!(count(&app, sink, "failed").await, 0);
    }
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    assert!(metrics.contains("audit_checkpoint_complete_timestamp_seconds{sink=\"file\"} 1"), "{metrics}");

    // The export is proved by what was signed.
    let export = client.get("/v1/audit/export").await.body;
    let heads = Heads(signed.iter().map(|line| (line.position, line.hash.clone())).collect());
    assert_eq!(found_here(&heads.of(tenant), &export), "nothing");
    // What is in the file already is not signed again after a restart.
    app.stop().await;
    let again = app.another_instance_with(place.settings()).await;
    let other = other.at(format!("http://{}", again.address));
    call(&other, "c").await;
    is_kept(&place, &app.stack, other.tenant.id()).await;
    assert_eq!(place.lines(tenant), signed);
}

#[tokio::test]
async fn a_place_that_is_away_gets_it_later_and_holds_up_nobody() {
    let (place, receiver) = (Place::new(), Receiver::start().await);
    receiver.answer(500);
    // A file where a directory should be.
    fs::write(place.kept(), "").unwrap();
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    let settings = place.settings();
    let app = TestApp::start_with(|own| {
        settings(own);
        own.audit_checkpoint_bucket = true;
        own.audit_checkpoint_url = Some(url);
        own.audit_checkpoint_secret = Some(SECRET.to_owned().into());
        own.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    let client = app.admin();
    call(&client, "a").await;
    is_in_bucket(&app.stack, client.tenant.id()).await;
    wait_until("the file failed", async || count(&app, "file", "failed").await >= 2).await;
    wait_until("the receiver is told again", async || count(&app, "webhook", "written").await >= 1).await;
    assert!(count(&app, "webhook", "failed").await >= 1);
    let told = receiver.told();
    let again = told.iter().filter(|other| other.id == told[0].id).count();
    assert!(again >= 1, "{told:?}");
    assert_eq!(count(&app, "file", "written").await, 0);
    call(&client, "b").await;
    fs::remove_file(place.kept()).unwrap();
    is_kept(&place, &app.stack, client.tenant.id()).await;
}

#[tokio::test]
async fn a_projector_that_dies_between_two_places_leaves_nothing_out() {
    let (place, stack) = (Place::new(), Stack::new().await);
    let variables = place.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let app = TestApp::on(stack.clone(), |_| ()).await;
    let client = app.admin();
    call(&client, "a").await;
    let crashing: Vec<_> = variables.iter().copied().chain([("TOOLGATE_CRASH_AT", "projector.checkpointed")]).collect();
    let mut dying = Child::start(&stack, Role::Projector, &crashing).await;
    assert!(!dying.ended().await.success(), "it was to die");
    let _healthy = Child::start(&stack, Role::Projector, &variables).await;
    is_kept(&place, &stack, client.tenant.id()).await;
    is_in_bucket(&stack, client.tenant.id()).await;
}

#[tokio::test]
async fn of_two_projectors_one_signs_and_the_other_goes_on_when_it_dies() {
    let (place, stack) = (Place::new(), Stack::new().await);
    let variables = place.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (commands, queries, _worker, mut first) = tokio::join!(
        Child::start(&stack, Role::CommandApi, &[]),
        Child::start(&stack, Role::QueryApi, &[]),
        Child::start(&stack, Role::Worker, &[]),
        Child::start(&stack, Role::Projector, &variables),
    );
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let tenant = Tenant::new();
            Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()))
        })
        .collect();
    let call_all = async |key: &str| {
        for client in &clients {
            let call = client.call_and_wait(key, &task()).await.json();
            client.at(queries.url()).get_projected(&call).await;
        }
    };
    call_all("a").await;
    let _second = Child::start(&stack, Role::Projector, &variables).await;
    call_all("b").await;
    for client in &clients {
        is_kept(&place, &stack, client.tenant.id()).await;
    }
    first.kill().await;
    call_all("c").await;
    for client in &clients {
        is_kept(&place, &stack, client.tenant.id()).await;
        let positions: Vec<_> = place.lines(client.tenant.id()).iter().map(|line| line.position).collect();
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "each position is signed once: {positions:?}");
    }
}

#[tokio::test]
async fn a_trail_that_does_not_continue_what_was_signed_is_not_signed() {
    let place = Place::new();
    let app = TestApp::start_with(place.settings()).await;
    let (healthy, rewritten, shortened, changed) = (app.admin(), app.admin(), app.admin(), app.admin());
    for client in [&healthy, &rewritten, &shortened, &changed] {
        call(client, "a").await;
        is_kept(&place, &app.stack, client.tenant.id()).await;
    }
    let before: Vec<_> = [&rewritten, &shortened, &changed].map(|client| place.lines(client.tenant.id())).into();
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("set session_replication_role = replica").await.unwrap();
    let newest = |client: &Client| {
        let tenant = client.tenant.0;
        format!(
            "where tenant_id = '{tenant}' and position = (select max(position) from audit_event where tenant_id = '{tenant}')"
        )
    };
    let statements = [
        format!("delete from audit_event {}", newest(&shortened)),
        format!("update audit_event set actor = 'somebody else' {}", newest(&changed)),
    ];
    for statement in statements {
        superuser.execute(statement.as_str()).await.unwrap();
    }
    // The whole trail is written anew, with hashes that fit.
    let tenant = rewritten.tenant.id();
    let mut rows = super::judge::rows(&rewritten.get("/v1/audit/export").await.body);
    let mut prev_hash = toolgate_events::audit::genesis_hash(tenant);
    for row in &mut rows {
        row.actor = "somebody else".to_owned();
        row.prev_hash = prev_hash;
        row.hash = row.expected_hash();
        prev_hash = row.hash.clone();
        sqlx::query("update audit_event set actor = $1, prev_hash = $2, hash = $3 where tenant_id = $4 and position = $5")
            .bind(&row.actor)
            .bind(&row.prev_hash)
            .bind(&row.hash)
            .bind(tenant.0)
            .bind(i64::try_from(row.position).unwrap())
            .execute(&mut superuser)
            .await
            .unwrap();
    }
    let export = rewritten.get("/v1/audit/export").await.body;
    assert_eq!(found_here(&Heads::default().of(tenant), &export), "nothing", "the chain alone cannot tell");
    let signed = &before[0];
    let heads = Heads(signed.iter().map(|line| (line.position, line.hash.clone())).collect());
    assert_ne!(found_here(&heads.of(tenant), &export), "nothing");
    for client in [&rewritten, &shortened, &changed] {
        call(client, "b").await;
    }
    wait_until("they are refused", async || count(&app, "file", "refused").await >= 3).await;
    call(&healthy, "b").await;
    is_kept(&place, &app.stack, healthy.tenant.id()).await;
    for (client, before) in [&rewritten, &shortened, &changed].into_iter().zip(before) {
        assert_eq!(place.lines(client.tenant.id()), before);
    }
}

/// Nothing was signed when it was changed, so that the table alone is as it should be.
#[tokio::test]
async fn what_the_log_does_not_say_is_not_signed() {
    let place = Place::new();
    let app = TestApp::start_with(|settings| settings.audit_verify_events_per_second = 0).await;
    let (healthy, forged, made_up) = (app.admin(), app.admin(), app.admin());
    for client in [&healthy, &forged, &made_up] {
        call(client, "a").await;
    }
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("set session_replication_role = replica").await.unwrap();
    let newest = async |client: &Client| super::judge::rows(&client.get("/v1/audit/export").await.body).pop().unwrap();
    let mut row = newest(&forged).await;
    row.actor = "somebody else".to_owned();
    sqlx::query("update audit_event set actor = $1, hash = $2 where tenant_id = $3 and position = $4")
        .bind(&row.actor)
        .bind(row.expected_hash())
        .bind(forged.tenant.0)
        .bind(i64::try_from(row.position).unwrap())
        .execute(&mut superuser)
        .await
        .unwrap();
    let mut row = newest(&made_up).await;
    (row.position, row.stream_sequence, row.prev_hash) = (row.position + 1, 1_000_000, row.hash);
    row.hash = String::new();
    sqlx::query(
        "insert into audit_event select (jsonb_populate_record(a, jsonb_build_object(
             'position', $1::bigint, 'stream_sequence', $2::bigint, 'prev_hash', $3::text, 'hash', $4::text))).*
         from audit_event a where tenant_id = $5 and position = $1 - 1",
    )
    .bind(i64::try_from(row.position).unwrap())
    .bind(i64::try_from(row.stream_sequence).unwrap())
    .bind(&row.prev_hash)
    .bind(row.expected_hash())
    .bind(made_up.tenant.0)
    .execute(&mut superuser)
    .await
    .unwrap();
    for client in [&forged, &made_up] {
        let export = client.get("/v1/audit/export").await.body;
        assert_eq!(found_here(&Heads::default().of(client.tenant.id()), &export), "nothing", "the chain alone cannot tell");
    }
    let signing = app.another_instance_with(place.settings()).await;
    let signing = healthy.at(format!("http://{}", signing.address));
    wait_until("both are refused", async || counted(&signing, "file", "refused").await >= 3).await;
    is_kept(&place, &app.stack, healthy.tenant.id()).await;
    for client in [&forged, &made_up] {
        assert_eq!(place.lines(client.tenant.id()), [], "nothing is signed");
    }
}

#[tokio::test]
async fn what_was_signed_is_compared_in_the_archive_and_a_tenant_without_rows_is_an_alarm() {
    let place = Place::new();
    let app = TestApp::start_with(|settings| settings.audit_verify_events_per_second = 0).await;
    let (archived, hidden, gone) = (app.admin(), app.admin(), app.admin());
    let clients = [&archived, &hidden, &gone];
    for client in clients {
        call(client, "a").await;
    }
    let signing = app.another_instance_with(place.settings()).await;
    for client in clients {
        is_kept(&place, &app.stack, client.tenant.id()).await;
    }
    signing.stop().await;
    let signed = clients.map(|client| place.lines(client.tenant.id()));
    call(&archived, "b").await;
    call(&hidden, "b").await;
    let archiver = crate::archive::archiver(&app.stack).await;
    archiver.archive(archived.tenant.id(), crate::archive::now() + chrono::TimeDelta::days(1)).await.unwrap();
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("set session_replication_role = replica").await.unwrap();
    // The row that was signed is taken away, and a line in the list of segments says that it was archived.
    let hide = format!(
        "with gone as (delete from audit_event where tenant_id = '{tenant}' and position <= {upto} returning position, hash)
         insert into audit_segment (tenant_id, first_position, last_position, prev_hash, hash, first_occurred_at, last_occurred_at,
             size, sha256) select '{tenant}', 1, {upto}, 'p', hash, now(), now(), 1, 's' from gone where position = {upto}",
        tenant = hidden.tenant.0,
        upto = signed[1].last().unwrap().position,
    );
    superuser.execute(hide.as_str()).await.unwrap();
    superuser.execute(format!("delete from audit_event where tenant_id = '{}'", gone.tenant.0).as_str()).await.unwrap();

    let signing = app.another_instance_with(place.settings()).await;
    is_kept(&place, &app.stack, archived.tenant.id()).await;
    let signing = archived.at(format!("http://{}", signing.address));
    wait_until("both are refused", async || counted(&signing, "file", "refused").await >= 3).await;
    for (client, signed) in [&hidden, &gone].into_iter().zip(&signed[1..]) {
        assert_eq!(&place.lines(client.tenant.id()), signed);
    }
}

#[tokio::test]
async fn what_could_never_be_signed_or_told_stops_the_projector_with_a_sentence() {
    let (place, stack) = (Place::new(), Stack::new().await);
    stack.log().await;
    let (key, kept) = (place.key().display().to_string(), place.kept().display().to_string());
    let secret = ("TOOLGATE_AUDIT_CHECKPOINT_SECRET", SECRET);
    for (variables, words) in [
        (vec![("TOOLGATE_AUDIT_CHECKPOINT_DIR", kept.as_str())], "set `audit_key_file`"),
        (vec![("TOOLGATE_AUDIT_KEY_FILE", "/nowhere")], "cannot read the audit key /nowhere"),
        (
            vec![("TOOLGATE_AUDIT_KEY_FILE", key.as_str()), ("TOOLGATE_AUDIT_CHECKPOINT_URL", "http://10.0.0.1/"), secret],
            "`audit_checkpoint_url` cannot be used",
        ),
    ] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_toolgate"))
            .arg("projector")
            .env("TOOLGATE_DATA_DIR", &stack.data_dir)
            .env("TOOLGATE_PARTITIONS", crate::app::PARTITIONS.to_string())
            .env("NATS_URL", stack.connections.nats.expose_secret())
            .env("DATABASE_URL_PROJECTOR", stack.connections.projector.expose_secret())
            .envs(variables.iter().copied())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{variables:?}: {said}");
    }
}
