//! The trail across the border between the table and the archive.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{Executor, PgPool};
use tokio::process::Command;
use toolgate_projector::{ArchiveError, Archiver};
use toolgate_store::{Archive, Clock, SegmentName, User};

use crate::app::{Child, Client, PARTITIONS, Proxy, Role, Stack, TableOwner, Tenant, TestApp, task, wait_until};

const ROWS: usize = 10;

/// A tenant with a trail of 40 rows, some of them of a session.
pub async fn with_history(app: &TestApp) -> Client {
    let client = app.admin();
    for number in 0..20 {
        let mut body = task();
        if number % 3 == 0 {
            body["session_id"] = json!("a session");
        }
        assert_eq!(client.call_and_wait(&format!("k{number}"), &body).await.status, 200);
    }
    wait_until("the trail is there", async || client.audit().await.len() == 40).await;
    client
}

pub async fn archiver(stack: &Stack) -> Archiver {
    Archiver {
        archive: Archive::open(&stack.log().await).await.unwrap(),
        rows: PgPool::connect(stack.connections.projector.expose_secret()).await.unwrap(),
        owner: PgPool::connect(stack.connections.owner.expose_secret()).await.unwrap(),
        segment_rows: ROWS,
    }
}

pub fn now() -> DateTime<Utc> {
    Clock::system().now()
}

async fn rows_in_table(stack: &Stack, tenant: Tenant) -> i64 {
    stack.count(&format!("select count(*) from audit_event where tenant_id = '{}'", tenant.0)).await
}

/// Whatever tells of the trail, in one value.
async fn everything(client: &Client) -> Value {
    let trail = client.audit().await;
    let call = trail[5]["aggregate_id"].as_str().unwrap();
    let time = trail[12]["occurred_at"].as_str().unwrap();
    let mut answers = vec![];
    for query in [
        "after=3&limit=4",
        "after=8&limit=5",
        "after=35&limit=500",
        "after=38",
        "type=tool_call_succeeded&limit=3&after=17",
        &format!("call_id={call}"),
        &format!("from={time}&limit=7"),
        &format!("to={time}"),
        "actor=nobody",
    ] {
        answers.push(client.get(&format!("/v1/audit?{query}")).await.json());
    }
    for path in [
        format!("/v1/tool-calls/{call}?as_of=6"),
        "/v1/sessions/a%20session?as_of=17".to_owned(),
        format!("/v1/sessions/a%20session?as_of={time}"),
        "/v1/usage?as_of=33".to_owned(),
        format!("/v1/usage?as_of={time}"),
    ] {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answers.push(json!([answer.header("toolgate-position"), answer.json()]));
    }
    let export = client.get("/v1/audit/export").await.text();
    let filtered = client.pages("/v1/audit?limit=2&type=tool_call_requested", "after").await;
    let events = client.get(&format!("/v1/tool-calls/{call}/events")).await.json();
    let mut frames = vec![];
    for (query, count) in [("?after=0", 40), ("?after=7&type=tool_call_requested", 16), ("?after=0&session_id=a%20session", 14)] {
        for frame in client.events(query, None).await.events(count).await {
            let mut event = frame.json();
            // The trace is not part of the trail.
            event.as_object_mut().unwrap().remove("traceparent");
            frames.push(json!([frame.id, frame.event, event]));
        }
    }
    json!([trail, answers, export, filtered, events, frames])
}

#[tokio::test]
async fn the_trail_reads_alike_wherever_its_rows_are() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let other = with_history(&app).await;
    let before = everything(&client).await;
    let archiver = archiver(&app.stack).await;

    let archived = archiver.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    assert_eq!((archived.segments, archived.rows), (4, 39), "the newest row stays");
    assert_eq!(rows_in_table(&app.stack, client.tenant).await, 1);
    assert_eq!(rows_in_table(&app.stack, other.tenant).await, 40, "another tenant's rows stay where they are");
    assert_eq!(everything(&client).await, before);
    assert_eq!(archiver.verify(client.tenant.id()).await.unwrap(), 39);

    // The chain goes on from the row that stayed, and so does the archive.
    assert_eq!(client.call_and_wait("more", &task()).await.status, 200);
    wait_until("it is projected", async || client.audit().await.len() == 42).await;
    let longer = everything(&client).await;
    let archived = archiver.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    assert_eq!((archived.segments, archived.rows), (1, 2));
    assert_eq!(everything(&client).await, longer);
    assert_eq!(archiver.verify(client.tenant.id()).await.unwrap(), 41);
    let again = archiver.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    assert_eq!(again.rows, 0);
}

#[tokio::test]
async fn what_is_not_old_enough_stays() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let trail = client.audit().await;
    let archiver = archiver(&app.stack).await;
    let time = |index: usize| trail[index]["occurred_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    for (before, left) in [(time(0), 40), (time(1), 39), (time(25), 15)] {
        archiver.archive(client.tenant.id(), before).await.unwrap();
        assert_eq!(rows_in_table(&app.stack, client.tenant).await, left);
    }
    assert_eq!(client.audit().await, trail);
}

/// The command, as an operator runs it.
async fn run(app: &TestApp, arguments: &[&str], crash_at: &str) -> (bool, String) {
    let connections = &app.stack.connections;
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command
        .args(["audit", "archive", "--segment-rows", "10"])
        .args(arguments)
        .env("TOOLGATE_DATA_DIR", &app.stack.data_dir)
        .env("TOOLGATE_PARTITIONS", PARTITIONS.to_string())
        .env("TOOLGATE_CRASH_AT", crash_at)
        .env("NATS_URL", connections.nats.expose_secret())
        .env("DATABASE_URL", connections.owner.expose_secret())
        .env("DATABASE_URL_PROJECTOR", connections.projector.expose_secret());
    let output = command.kill_on_drop(true).output().await.unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn wherever_archiving_dies_the_trail_is_whole_and_the_next_run_goes_on() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let before = everything(&client).await;
    let tenant = client.tenant.0.to_string();
    let archive = ["--tenant", tenant.as_str(), "--older-than-days", "0"];
    for (point, left) in [
        ("archive.stored", 40),
        ("archive.listed", 40),
        ("archive.dropping", 40),
        // What the runs before have listed leaves the table first.
        ("archive.stored", 30),
        ("archive.listed", 30),
        ("archive.dropping", 30),
    ] {
        let (done, said) = run(&app, &archive, point).await;
        assert!(!done, "it was to die at {point}: {said}");
        assert_eq!(rows_in_table(&app.stack, client.tenant).await, left, "{point}");
        assert_eq!(everything(&client).await, before, "{point}");
    }
    let (done, said) = run(&app, &archive, "").await;
    assert!(done && said.contains("rows in"), "{said}");
    assert_eq!(rows_in_table(&app.stack, client.tenant).await, 1);
    assert_eq!(everything(&client).await, before);
    let (done, said) = run(&app, &["--all", "--verify"], "").await;
    assert!(done && said.contains("39 archived rows verified") && !said.contains("listed nowhere"), "{said}");
}

/// A run that stored a segment and died, followed by one that cuts otherwise, leaves an object that nobody lists.
#[tokio::test]
async fn what_lies_in_the_bucket_and_is_not_listed_is_named() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let tenant = client.tenant.0.to_string();
    let (done, said) = run(&app, &["--tenant", &tenant, "--older-than-days", "0"], "archive.stored").await;
    assert!(!done, "{said}");
    let archiver = Archiver { segment_rows: 15, ..archiver(&app.stack).await };
    archiver.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    let stranger = format!("{tenant}/1-10.ndjson.gz");
    for whose in [&["--tenant", &tenant][..], &["--all"]] {
        let (done, said) = run(&app, &[whose, &["--verify"]].concat(), "").await;
        assert!(done && said.contains(&format!("{stranger} is listed nowhere")), "{said}");
    }
    let other = Tenant::new().0.to_string();
    let (done, said) = run(&app, &["--tenant", &other, "--verify"], "").await;
    assert!(done && !said.contains("listed nowhere"), "another tenant's is not its own: {said}");
}

/// Somebody who reads for long holds up the archiving, and nobody else.
#[tokio::test]
async fn nobody_waits_behind_an_archiving_that_has_to_wait() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let mut reading = app.stack.connect(TableOwner::Superuser).await;
    reading.execute("begin isolation level repeatable read; select count(*) from audit_event").await.unwrap();
    let archiver = archiver(&app.stack).await;
    let archiving = archiver.archive(client.tenant.id(), now() + TimeDelta::days(1));
    let others = async {
        // Each time whoever reads now would stand behind it.
        for _ in 0..3 {
            wait_until("it waits for the table", async || {
                let waiting = "select count(*) from pg_locks where relation = 'audit_event'::regclass and not granted
                    and mode in ('AccessExclusiveLock', 'ShareRowExclusiveLock')";
                app.stack.count(waiting).await > 0
            })
            .await;
            assert_eq!(client.get("/v1/audit?limit=1").await.status, 200);
        }
        reading.execute("commit").await.unwrap();
    };
    let (archived, ()) = tokio::join!(archiving, others);
    assert_eq!(archived.unwrap().rows, 39);
    assert_eq!(rows_in_table(&app.stack, client.tenant).await, 1);
}

#[tokio::test]
async fn a_trail_that_does_not_verify_stays_as_it_is() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let change = format!(
        "alter table audit_event disable trigger all;
         update audit_event set actor = 'somebody else' where tenant_id = '{}' and position = 15;
         alter table audit_event enable trigger all",
        client.tenant.0
    );
    superuser.execute(change.as_str()).await.unwrap();
    let error = archiver(&app.stack).await.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap_err();
    assert!(matches!(&error, ArchiveError::Chain { .. }) && error.to_string().contains("row 15"), "{error}");
    assert_eq!(rows_in_table(&app.stack, client.tenant).await, 30, "what came before it verifies");
}

#[tokio::test]
async fn a_damaged_segment_is_named_and_never_shown() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let archiver = archiver(&app.stack).await;
    archiver.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    let name = SegmentName { tenant: client.tenant.id(), first_position: 11, last_position: 20 };
    let mut bytes = archiver.archive.get(name, 1 << 20).await.unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    archiver.archive.put(name, &bytes).await.unwrap();

    client.get("/v1/audit?after=12&limit=5").await.problem(500, "internal");
    assert_eq!(client.get("/v1/audit?after=20&limit=5").await.status, 200, "the others are as good as before");
    let error = archiver.verify(client.tenant.id()).await.unwrap_err();
    assert!(error.to_string().contains("11-20"), "{error}");
    let (done, said) = run(&app, &["--all", "--verify"], "").await;
    assert!(!done && said.contains("11-20"), "{said}");
}

#[tokio::test]
async fn an_object_store_that_does_not_answer_holds_no_connection() {
    let app = TestApp::start().await;
    let clients = [with_history(&app).await, with_history(&app).await];
    let archiver = archiver(&app.stack).await;
    for client in &clients {
        archiver.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    }
    let bystander = app.admin();
    assert_eq!(bystander.call_and_wait("k", &task()).await.status, 200);
    let proxy = Proxy::before(&app.stack.connections.nats_roles[&User::QueryApi]).await;
    let api = Child::start(&app.stack, Role::QueryApi, &[("NATS_URL_QUERY_API", proxy.url.expose_secret())]).await;
    let [one, other, bystander] = [&clients[0], &clients[1], &bystander].map(|client| client.at(api.url()));
    assert_eq!(bystander.get("/v1/audit").await.status, 200);
    proxy.withhold_answers();
    // Twice as many as there are connections.
    let asking: Vec<_> = (0..20)
        .map(|number| {
            let client = if number % 2 == 0 { one.clone() } else { other.clone() };
            let path = if number < 10 { "/v1/audit?after=3&limit=20" } else { "/v1/sessions/a%20session?as_of=17" };
            tokio::spawn(async move { client.get(path).await })
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(bystander.get("/v1/audit").await.status, 200, "somebody else's rows wait for the object store");
    }
    assert!(asking.iter().all(|asking| !asking.is_finished()), "they need what is withheld");
    proxy.release_answers();
    for asked in asking {
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn the_trail_stays_append_only_for_everybody() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    archiver(&app.stack).await.archive(client.tenant.id(), now() + TimeDelta::days(1)).await.unwrap();
    for login in [TableOwner::Owner, TableOwner::Projector, TableOwner::Reader, TableOwner::Superuser] {
        let mut connection = app.stack.connect(login).await;
        for statement in ["delete from audit_event", "update audit_event set actor = 'x'", "truncate audit_event"] {
            // The owner sees no rows, so there is nothing for it to delete.
            let changed = connection.execute(statement).await.map_or(0, |done| done.rows_affected());
            assert_eq!(changed, 0, "{login:?}: {statement}");
        }
    }
    assert_eq!(rows_in_table(&app.stack, client.tenant).await, 1);
}
