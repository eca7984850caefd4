//! Who projects what, from where, and when not.

mod call_order;
mod damage;
mod erasures;
mod retry;
mod standstill;
mod trail;

use std::{collections::BTreeMap, process::Output, time::Duration};

use futures::{StreamExt, stream};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::process::Command;
use toolgate_events::{
    CallId, CallSubject, Envelope, Lane, Partition, ToolCallEvent, ToolCallRequested, ToolCallStarted, ToolCallSucceeded,
};
use toolgate_store::{Clock, Expect, Log};

use crate::app::{Child, Role, Stack, TableOwner, Tenant, TestApp, request, task, wait_until};

/// A tenant of the given one of the four partitions.
fn tenant_in(partition: u16) -> Tenant {
    std::iter::repeat_with(Tenant::new).find(|tenant| Partition::of(tenant.id(), 4).0 == partition).unwrap()
}

/// A call whose events a test appends one by one.
#[derive(Clone, Debug)]
struct Written {
    subject: CallSubject,
    /// Events so far, and where the last one is.
    last: (u64, u64),
}

impl Written {
    /// Its request is in the log.
    async fn request(log: &Log, tenant: Tenant) -> Self {
        Self::with(log, tenant, request("f")).await
    }

    /// The same with a request of one's own.
    async fn with(log: &Log, tenant: Tenant, request: Box<ToolCallRequested>) -> Self {
        let subject = CallSubject::new(4, tenant.id(), Lane::new("task").unwrap(), CallId(Clock::system().new_id()));
        let mut call = Self { subject, last: (0, 0) };
        call.append(log, ToolCallEvent::ToolCallRequested(request)).await;
        call
    }

    async fn append(&mut self, log: &Log, event: ToolCallEvent) {
        let (count, at) = self.last;
        let stamp = Clock::system().stamp("tester", None, None);
        let Self { subject, .. } = self;
        let envelope = Envelope::seal(&event, subject.tenant_id, subject.call_id, count + 1, stamp).unwrap();
        self.last = (count + 1, log.append(subject, &envelope, Expect(at), None, Duration::from_secs(5)).await.unwrap());
    }

    async fn start(&mut self, log: &Log) {
        let started = ToolCallStarted { tool: "task.create".to_owned(), attempt: 1, worker: "w".to_owned() };
        self.append(log, ToolCallEvent::ToolCallStarted(started)).await;
    }

    async fn succeed(&mut self, log: &Log) {
        let result = json!({"task_id": self.subject.call_id});
        let succeeded = json!({"tool": "task.create", "attempt": 1, "worker": "w", "duration_ms": 1, "result": result,
            "cached": false, "stale": false});
        let succeeded: ToolCallSucceeded = serde_json::from_value(succeeded).unwrap();
        self.append(log, ToolCallEvent::ToolCallSucceeded(succeeded)).await;
    }

    fn id(&self) -> CallId {
        self.subject.call_id
    }
}

/// The command line, with the logins that an operator has.
async fn toolgate(stack: &Stack, arguments: &[&str]) -> Output {
    toolgate_with(stack, arguments, &[]).await
}

async fn toolgate_with(stack: &Stack, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command
        .args(arguments)
        .env("NATS_URL", stack.connections.nats.expose_secret())
        .env("DATABASE_URL_PROJECTOR", stack.connections.projector.expose_secret())
        .env("TOOLGATE_PARTITIONS", "4")
        .env("TOOLGATE_DATA_DIR", &stack.data_dir)
        .envs(variables.iter().copied());
    command.output().await.unwrap()
}

/// The samples of a metric of a process, by their labels.
async fn samples(url: &str, metric: &str) -> BTreeMap<String, f64> {
    let text = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    let samples = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(metric)?.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| (labels.to_owned(), value.parse().unwrap()))
    });
    samples.collect()
}

/// Everything that tenants can read of calls and tasks, but for the trail, as text.
async fn read_models(stack: &Stack) -> Vec<String> {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    let query = "select row_to_json(t)::text from tool_call t union all select row_to_json(t)::text from task t order by 1";
    sqlx::query_scalar(query).fetch_all(&mut superuser).await.unwrap()
}

/// Appends requests of new calls, in every partition; a worker would find them, but there is none.
async fn append(log: &Log, count: usize) {
    let tenants: Vec<_> = (0..4).map(tenant_in).collect();
    let appends = (0..count).map(|number| {
        let subject = CallSubject::new(4, tenants[number % 4].id(), Lane::new("task").unwrap(), CallId(Clock::system().new_id()));
        async move {
            let stamp = Clock::system().stamp("tester", None, None);
            let event = ToolCallEvent::ToolCallRequested(request("f"));
            let envelope = Envelope::seal(&event, subject.tenant_id, subject.call_id, 1, stamp).unwrap();
            log.append(&subject, &envelope, Expect::NOTHING, None, Duration::from_secs(5)).await.unwrap();
        }
    });
    stream::iter(appends).buffer_unordered(16).collect::<()>().await;
}

async fn projected(stack: &Stack) -> i64 {
    stack.count("select count(*) from audit_event").await
}

/// Every event once, each tenant's positions gapless from 1, each row chained to the one before.
async fn assert_projected_once(stack: &Stack, count: i64) {
    wait_until("everything is projected", async || projected(stack).await >= count).await;
    assert_eq!(projected(stack).await, count);
    let distinct = "select count(*) from (select distinct tenant_id, event_id from audit_event) as events";
    assert_eq!(stack.count(distinct).await, count);
    let unlinked = "select count(*) from (
        select prev_hash, position, lag(hash) over chain as before, row_number() over chain as number
        from audit_event window chain as (partition by tenant_id order by position)) as rows
        where position <> number or (number > 1 and prev_hash <> before)";
    assert_eq!(stack.count(unlinked).await, 0, "gaps or broken links");
    assert_eq!(stack.count("select count(*) from tool_call").await, count);
}

/// The backend that holds each partition, by partition. A projector may hold its partitions through several.
async fn owners(stack: &Stack) -> BTreeMap<i32, i32> {
    let mut connection = stack.connect(TableOwner::Superuser).await;
    let owners: Vec<(i32, i32)> = sqlx::query_as(
        "select objid::int, pid from pg_locks
         where locktype = 'advisory' and classid::bigint = x'5447504a'::bigint and granted and database = (select oid from pg_database where datname = current_database())",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let count = owners.len();
    let owners = BTreeMap::from_iter(owners);
    assert_eq!(owners.len(), count, "a partition with two owners");
    owners
}

#[tokio::test]
async fn a_partition_has_one_projector_and_finds_another_when_that_dies() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let mut first = Child::start(&stack, Role::Projector, &[]).await;
    wait_until("the first owns every partition", async || owners(&stack).await.len() == 4).await;
    let before = owners(&stack).await;
    let _second = Child::start(&stack, Role::Projector, &[]).await;
    append(&log, 200).await;
    assert_projected_once(&stack, 200).await;
    assert_eq!(owners(&stack).await, before, "the second took nothing from the first");

    first.kill().await;
    append(&log, 200).await;
    assert_projected_once(&stack, 400).await;
    let heirs = owners(&stack).await;
    assert_eq!(heirs.len(), 4);
    assert!(heirs.values().all(|heir| !before.values().any(|owner| owner == heir)), "{heirs:?} after {before:?}");
}

async fn dies_and_is_restarted(point: &str, rows_at_death: i64) {
    let stack = Stack::new().await;
    let log = stack.log().await;
    append(&log, 50).await;
    let mut dying = Child::start(&stack, Role::Projector, &[("TOOLGATE_CRASH_AT", point)]).await;
    assert!(!dying.ended().await.success(), "it was to die at {point}");
    assert_eq!(projected(&stack).await > 0, rows_at_death > 0, "all of a batch or nothing of it");
    append(&log, 50).await;
    let _healthy = Child::start(&stack, Role::Projector, &[]).await;
    assert_projected_once(&stack, 100).await;
}

#[tokio::test]
async fn dying_before_the_commit_leaves_nothing_and_dying_after_it_repeats_nothing() {
    dies_and_is_restarted("projector.written", 0).await;
    dies_and_is_restarted("projector.committed", 1).await;
}

#[tokio::test]
async fn batches_of_any_size_give_the_same_rows() {
    let stack = Stack::new().await;
    append(&stack.log().await, 60).await;
    let _projector = Child::start(&stack, Role::Projector, &[("TOOLGATE_PROJECTOR_BATCH", "1")]).await;
    assert_projected_once(&stack, 60).await;
}

/// Where the partition of `tenant` stands: its checkpoint, and the tenant's rows.
async fn stand(stack: &Stack, tenant: Tenant) -> (i64, i64) {
    let partition = Partition::of(tenant.id(), 4).0;
    let checkpoint =
        stack.count(&format!("select stream_sequence from projection_checkpoint where partition = {partition}")).await;
    let rows = stack.count(&format!("select count(*) from audit_event where tenant_id = '{}'", tenant.0)).await;
    (checkpoint, rows)
}

async fn halted_partitions(app: &TestApp) -> usize {
    let text = app.admin().get("/metrics").await.text();
    text.lines().filter(|line| line.starts_with("projection_halted{") && line.ends_with(" 1")).count()
}

#[tokio::test]
async fn a_log_that_is_behind_its_checkpoint_halts_the_partition_and_no_other() {
    let mut app = TestApp::start().await;
    app.leaves_work();
    let (halted, healthy) = (tenant_in(1), tenant_in(2));
    let call = app.client(halted, "admin").call_and_wait("k", &task()).await.json();
    app.client(halted, "admin").get_projected(&call).await;
    app.stop().await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser
        .execute("update projection_checkpoint set stream_sequence = stream_sequence + 100 where partition = 1")
        .await
        .unwrap();
    let before = stand(&app.stack, halted).await;

    app.start_again().await;
    wait_until("the partition is halted", async || halted_partitions(&app).await == 1).await;
    assert_eq!(app.client(halted, "agent").call("more", &task()).await.status, 202);
    let call = app.client(healthy, "admin").call_and_wait("k", &task()).await.json();
    app.client(healthy, "admin").get_projected(&call).await;
    assert_eq!(stand(&app.stack, halted).await, before, "nothing is projected and no position is given away");
    wait_until("readiness says no", async || app.admin().get("/readyz").await.status == 503).await;
}

#[tokio::test]
async fn a_log_that_was_replaced_halts_even_when_it_has_grown_past_the_checkpoint() {
    let mut app = TestApp::start().await;
    app.leaves_work();
    let tenant = tenant_in(3);
    let call = app.client(tenant, "admin").call_and_wait("k", &task()).await.json();
    app.client(tenant, "admin").get_projected(&call).await;
    app.stop().await;
    let before = stand(&app.stack, tenant).await;
    let other = app.stack.with_another_log();
    // Other events, and more of them, than what was projected.
    let log = other.log().await;
    append(&log, 40).await;
    let mut other = TestApp::on(other, |_| ()).await;
    other.leaves_work();
    wait_until("the partition is halted", async || halted_partitions(&other).await == 1).await;
    assert_eq!(stand(&other.stack, tenant).await, before);
    wait_until("readiness says no", async || other.admin().get("/readyz").await.status == 503).await;
    let refused: Value = other.client(tenant, "admin").get("/v1/tasks").await.json();
    assert_eq!(refused["items"].as_array().unwrap().len(), 1, "what was projected can still be read");
}
