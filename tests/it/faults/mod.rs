//! Something dies with SIGKILL in the middle of the load, and nothing that was promised is lost or done twice.

mod roles;
mod servers;

use std::collections::BTreeSet;

use tokio::sync::watch;
use toolgate_events::audit::{self, AuditRow};
use uuid::Uuid;

use crate::app::{Child, Client, Frame, Role, Stack, Tenant, Token, post_mixed, wait_until_count};

const CALLS: usize = 2_000;
const CLIENTS: usize = 16;

/// Every role in a process of its own.
struct Roles {
    command_api: Child,
    query_api: Child,
    worker: Child,
    projector: Child,
}

/// A caller, and where it reads.
struct Caller {
    posts: Client,
    reads: Client,
}

impl Roles {
    async fn start(stack: &Stack) -> (Self, Caller) {
        // What a dead worker held comes again after this time.
        let ack_wait = [("TOOLGATE_ACK_WAIT_MS", "1000")];
        let (command_api, query_api, worker, projector) = tokio::join!(
            Child::start(stack, Role::CommandApi, &[]),
            Child::start(stack, Role::QueryApi, &[]),
            Child::start(stack, Role::Worker, &ack_wait),
            Child::start(stack, Role::Projector, &[]),
        );
        let tenant = Tenant::new();
        let posts = Client::new(command_api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
        let reads = posts.at(query_api.url());
        (Self { command_api, query_api, worker, projector }, Caller { posts, reads })
    }
}

/// Posts the load, and lets `disaster` happen when a third of it is through.
async fn post_through(client: &Client, disaster: impl Future<Output = ()>) -> Vec<Uuid> {
    let (progress, mut through) = watch::channel(0);
    let posting = post_mixed(client, CALLS, CLIENTS, |count| {
        progress.send_replace(count);
    });
    let disaster = async {
        let at = *through.wait_for(|count| *count > CALLS / 3).await.unwrap();
        assert!(at < CALLS, "the load was over before the disaster came: this proves nothing");
        disaster.await;
    };
    tokio::join!(posting, disaster).0
}

/// Every call has one request and one outcome, every effect is there once, and the trail is whole.
async fn assert_all_is_well(stack: &Stack, reads: &Client, posted: Vec<Uuid>) {
    let finished = "select count(*) from tool_call where finished_at is not null";
    let calls = i64::try_from(CALLS).unwrap();
    wait_until_count("calls with an outcome", calls, async || stack.count(finished).await).await;
    let rows: Vec<AuditRow> = reads.audit().await.into_iter().map(|row| serde_json::from_value(row).unwrap()).collect();
    let calls_with = |types: &[&str]| -> Vec<Uuid> {
        rows.iter().filter(|row| types.contains(&row.event_type.as_str())).map(|row| row.aggregate_id).collect()
    };
    let posted: BTreeSet<_> = posted.into_iter().collect();
    assert_eq!(posted.len(), CALLS);
    for types in [&["tool_call_requested"][..], &["tool_call_succeeded", "tool_call_failed"]] {
        let calls = calls_with(types);
        assert_eq!(calls.len(), CALLS, "{types:?}");
        assert_eq!(calls.into_iter().collect::<BTreeSet<_>>(), posted, "{types:?}");
    }
    let mut before = (0, audit::genesis_hash(reads.tenant.id()));
    for row in &rows {
        assert_eq!(audit::verify((before.0, &before.1), row), Ok(()));
        before = (row.position, row.hash.clone());
    }
    assert_eq!(rows.len() as u64, stack.events_in_log().await, "the trail and the log hold the same events");
    for table in ["task", "document", "knowledge_document"] {
        let count = stack.count(&format!("select count(*) from {table}")).await;
        let succeeded = stack
            .count(&format!(
                "select count(*) from tool_call where status = 'succeeded' and tool = '{}'",
                match table {
                    "task" => "task.create",
                    "document" => "document.render",
                    _ => "knowledge.upsert",
                }
            ))
            .await;
        assert_eq!(count, succeeded, "{table}");
    }
    let frames = reads.events("?after=0", None).await.events(rows.len()).await;
    let positions: Vec<_> = frames.iter().map(Frame::position).collect();
    assert_eq!(positions, (1..=rows.len() as u64).collect::<Vec<_>>());
}
