//! Appending and loading.

use std::time::Duration;

use toolgate_events::{CallId, CallSubject, Envelope, Lane, Stamp, ToolCallEvent, ToolCallStarted};
use toolgate_store::{AppendError, Clock, Expect, Log, LogError, LogOptions, fold};

use crate::app::{Stack, Tenant, request};

const PATIENCE: Duration = Duration::from_secs(5);

fn subject(log: &Log, tenant: Tenant) -> CallSubject {
    CallSubject::new(log.partitions(), tenant.id(), Lane::new("task").unwrap(), CallId(Clock::system().new_id()))
}

fn stamp() -> Stamp {
    Clock::system().stamp("tester", None, None)
}

fn requested(subject: &CallSubject) -> Envelope {
    let event = ToolCallEvent::ToolCallRequested(request("f"));
    Envelope::seal(&event, subject.tenant_id, subject.call_id, 1, stamp()).unwrap()
}

fn started(subject: &CallSubject, sequence: u64) -> Envelope {
    let started = ToolCallStarted { tool: "task.create".to_owned(), attempt: 1, worker: "w".to_owned() };
    Envelope::seal(&ToolCallEvent::ToolCallStarted(started), subject.tenant_id, subject.call_id, sequence, stamp()).unwrap()
}

#[tokio::test]
async fn of_many_writers_of_a_first_event_exactly_one_wins() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let other = stack.log().await;
    let subject = subject(&log, Tenant::new());
    let envelopes: Vec<_> = (0..20).map(|_| requested(&subject)).collect();
    let appends = envelopes.iter().enumerate().map(|(number, envelope)| {
        let log = if number % 2 == 0 { &log } else { &other };
        log.append(&subject, envelope, Expect::NOTHING, None, PATIENCE)
    });
    let outcomes = futures::future::join_all(appends).await;
    let won: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).map(|(number, _)| number).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|error| matches!(error, AppendError::Conflict)));
    let recorded = log.load(&subject).await.unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].envelope, envelopes[won[0]]);
}

#[tokio::test]
async fn an_append_that_expects_what_is_not_there_conflicts_and_writes_nothing() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let subject = subject(&log, Tenant::new());
    let first = log.append(&subject, &requested(&subject), Expect::NOTHING, None, PATIENCE).await.unwrap();
    for wrong in [Expect::NOTHING, Expect(first + 1), Expect(first + 100)] {
        let outcome = log.append(&subject, &started(&subject, 2), wrong, None, PATIENCE).await;
        assert!(matches!(outcome, Err(AppendError::Conflict)), "{wrong:?}: {outcome:?}");
    }
    assert_eq!(log.load(&subject).await.unwrap().len(), 1);
    log.append(&subject, &started(&subject, 2), Expect(first), None, PATIENCE).await.unwrap();
    assert_eq!(log.load(&subject).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_finds_its_own_event() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let subject = subject(&log, Tenant::new());
    let envelope = requested(&subject);
    let first = log.append(&subject, &envelope, Expect::NOTHING, None, PATIENCE).await.unwrap();
    // The same append again, as after an answer that never came: the same place, and no second copy.
    let again = log.append(&subject, &envelope, Expect::NOTHING, None, PATIENCE).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(log.load(&subject).await.unwrap().len(), 1);
    assert_eq!(stack.events_in_log().await, 1);
}

#[tokio::test]
async fn events_load_in_order_and_only_the_calls_own() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let tenant = Tenant::new();
    let (one, two) = (subject(&log, tenant), subject(&log, tenant));
    let first = log.append(&one, &requested(&one), Expect::NOTHING, None, PATIENCE).await.unwrap();
    log.append(&two, &requested(&two), Expect::NOTHING, None, PATIENCE).await.unwrap();
    log.append(&one, &started(&one, 2), Expect(first), None, PATIENCE).await.unwrap();
    let recorded = log.load(&one).await.unwrap();
    let sequences: Vec<_> = recorded.iter().map(|event| event.envelope.aggregate_sequence).collect();
    assert_eq!(sequences, [1, 2]);
    assert!(recorded.is_sorted_by(|a, b| a.stream_sequence < b.stream_sequence));
    assert_eq!(fold(&recorded).unwrap().status, Some(toolgate_events::Status::Running));
    assert!(log.load(&subject(&log, tenant)).await.unwrap().is_empty());
    assert_eq!(log.locate(tenant.id(), one.call_id).await.unwrap(), Some(one.clone()));
    assert_eq!(log.locate(Tenant::new().id(), one.call_id).await.unwrap(), None, "by another tenant's id");
    let found = log.event_at(one.partition, first).await.unwrap().unwrap();
    assert_eq!(found.event_id, recorded[0].envelope.event_id);
    assert!(log.event_at(one.partition, 999).await.unwrap().is_none());
}

#[tokio::test]
async fn an_event_larger_than_the_broker_takes_is_refused_as_such() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let subject = subject(&log, Tenant::new());
    let mut envelope = requested(&subject);
    envelope.data["arguments"]["title"] = serde_json::json!("x".repeat(2 * 1024 * 1024));
    let outcome = log.append(&subject, &envelope, Expect::NOTHING, None, PATIENCE).await;
    assert!(matches!(outcome, Err(AppendError::TooLarge)), "{outcome:?}");
    assert_eq!(stack.events_in_log().await, 0);
}

#[tokio::test]
async fn a_log_is_not_opened_with_another_number_of_partitions() {
    let stack = Stack::new().await;
    stack.log().await;
    let url = secrecy::ExposeSecret::expose_secret(&stack.connections.nats);
    let outcome = Log::open(url, &LogOptions { partitions: 8, ..LogOptions::default() }).await;
    assert!(matches!(outcome, Err(LogError::Partitions { asked: 8, .. })), "{outcome:?}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_the_server() {
    let (stack, mut services) = Stack::private(true).await;
    let log = stack.log().await;
    let subject = subject(&log, Tenant::new());
    log.append(&subject, &requested(&subject), Expect::NOTHING, None, PATIENCE).await.unwrap();
    services.nats_mut().unwrap().kill().await;
    services.nats_mut().unwrap().restart().await.unwrap();
    let recorded = crate::app::eventually("the log answers again", async || log.load(&subject).await.ok()).await;
    assert_eq!(recorded.len(), 1);
}
