//! The log as cqrs-es's event store.

use std::collections::HashMap;

use cqrs_es::{AggregateError, CqrsFramework, EventStore, Query};
use toolgate_events::{
    ToolCall,
    tool_call::{self, Command},
};
use toolgate_store::{Clock, JetStreamEventStore};

use crate::app::{Stack, Tenant, request};

fn metadata() -> HashMap<String, String> {
    let clock = Clock::system();
    HashMap::from([
        ("event_id".to_owned(), clock.new_id().to_string()),
        ("occurred_at".to_owned(), clock.now().to_rfc3339()),
        ("actor".to_owned(), "tester".to_owned()),
    ])
}

fn aggregate_id() -> String {
    format!("{}.task.{}", Tenant::new().0, Clock::system().new_id())
}

fn start() -> Command {
    Command::Start { worker: "w".to_owned() }
}

#[tokio::test]
async fn commands_of_the_framework_become_events_of_the_log() {
    let stack = Stack::new().await;
    let queries: Vec<Box<dyn Query<ToolCall>>> = Vec::new();
    let framework = CqrsFramework::new(JetStreamEventStore::new(stack.log().await), queries, ());
    let id = aggregate_id();
    let first = metadata();
    framework.execute_with_metadata(&id, Command::Request(request("f")), first.clone()).await.unwrap();
    framework.execute_with_metadata(&id, start(), metadata()).await.unwrap();
    let refused = framework.execute_with_metadata(&id, start(), metadata()).await;
    assert!(matches!(refused, Err(AggregateError::UserError(tool_call::Error::AlreadyStarted))), "{refused:?}");

    let store = JetStreamEventStore::new(stack.log().await);
    let events = store.load_events(&id).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[0].payload.name(), "tool_call_requested");
    assert_eq!(events[0].metadata["event_id"], first["event_id"]);
    assert_eq!(events[0].metadata["actor"], "tester");
    assert_eq!(stack.events_in_log().await, 2);
}

#[tokio::test]
async fn a_commit_on_a_stale_aggregate_is_the_frameworks_conflict() {
    let stack = Stack::new().await;
    let store = JetStreamEventStore::new(stack.log().await);
    let id = aggregate_id();
    let (one, two) = (store.load_aggregate(&id).await.unwrap(), store.load_aggregate(&id).await.unwrap());
    let event = |fingerprint| toolgate_events::ToolCallEvent::ToolCallRequested(request(fingerprint));
    store.commit(vec![event("f")], one, metadata()).await.unwrap();
    let conflict = store.commit(vec![event("g")], two, metadata()).await;
    assert!(matches!(conflict, Err(AggregateError::AggregateConflict)), "{conflict:?}");
    assert_eq!(store.load_events(&id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_log_could_not_record_is_refused() {
    let stack = Stack::new().await;
    let store = JetStreamEventStore::new(stack.log().await);
    let event = || toolgate_events::ToolCallEvent::ToolCallRequested(request("f"));
    let id = aggregate_id();
    let nothing = store.commit(vec![event()], store.load_aggregate(&id).await.unwrap(), HashMap::new()).await;
    assert!(matches!(nothing, Err(AggregateError::UnexpectedError(_))), "{nothing:?}");
    let two = store.commit(vec![event(), event()], store.load_aggregate(&id).await.unwrap(), metadata()).await;
    assert!(two.is_err(), "one decision is one event");
    for id in ["", "x", "a.b.c", &format!("{id}.x"), &id.replace(".task.", ".*.")] {
        assert!(store.load_events(id).await.is_err(), "{id}");
    }
    assert_eq!(stack.events_in_log().await, 0);
}
