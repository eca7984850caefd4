use cqrs_es::test::TestFramework;
use serde_json::{Map, json};

use super::*;
use crate::{Authorization, CallOptions, Lane};

type Calls = TestFramework<ToolCall>;

fn request(fingerprint: &str) -> Box<ToolCallRequested> {
    Box::new(ToolCallRequested {
        tool: "task.create".to_owned(),
        lane: Lane::new("task").unwrap(),
        arguments: Map::new(),
        session_id: None,
        options: CallOptions::default(),
        request_fingerprint: fingerprint.to_owned(),
        authorization: Authorization {
            policy_version: "p".to_owned(),
            rule: "r".to_owned(),
            principal: "alice".to_owned(),
            roles: vec!["agent".to_owned()],
            permissions: Vec::new(),
            tool_version: 1,
            contract_hash: "c".to_owned(),
        },
        data_subject: None,
        erased: false,
    })
}

fn requested() -> ToolCallEvent {
    ToolCallEvent::ToolCallRequested(request("f"))
}

fn started() -> ToolCallEvent {
    ToolCallEvent::ToolCallStarted(ToolCallStarted { tool: "task.create".to_owned(), attempt: 1, worker: "w1".to_owned() })
}

fn retried(attempt: u32) -> ToolCallEvent {
    ToolCallEvent::ToolCallRetried(ToolCallRetried {
        tool: "task.create".to_owned(),
        attempt,
        worker: "w2".to_owned(),
        reason: "lost".to_owned(),
    })
}

fn succeeded(attempt: u32) -> ToolCallEvent {
    ToolCallEvent::ToolCallSucceeded(ToolCallSucceeded {
        tool: "task.create".to_owned(),
        attempt,
        worker: "w1".to_owned(),
        duration_ms: 3,
        result: json!({"ok": true}),
        cached: false,
        stale: false,
        source_call_id: None,
        age_seconds: None,
        data_subject: None,
        erased: false,
    })
}

fn succeed(attempt: u32) -> Command {
    Command::Succeed { attempt, worker: "w1".to_owned(), duration_ms: 3, result: json!({"ok": true}), reuse: None }
}

fn reused(stale: bool) -> Command {
    let reuse = Some(Reuse { call_id: CallId(Uuid::from_u128(7)), age_seconds: 40, stale });
    Command::Succeed { attempt: 1, worker: "w1".to_owned(), duration_ms: 0, result: json!({"ok": true}), reuse }
}

fn retry(max_attempts: u32) -> Command {
    Command::Retry { worker: "w2".to_owned(), reason: "lost".to_owned(), max_attempts }
}

fn cancel() -> Command {
    Command::Cancel { principal: "alice".to_owned(), requested_event_id: Uuid::nil() }
}

#[test]
fn a_call_is_requested_once() {
    Calls::with(()).given_no_previous_events().when(Command::Request(request("f"))).then_expect_events(vec![requested()]);
    Calls::with(()).given(vec![requested()]).when(Command::Request(request("f"))).then_expect_error(Error::AlreadyRequested);
}

#[test]
fn a_key_used_for_something_else_is_refused() {
    Calls::with(()).given(vec![requested()]).when(Command::Request(request("g"))).then_expect_error(Error::FingerprintMismatch);
}

#[test]
fn nothing_happens_to_a_call_that_was_never_requested() {
    for command in [Command::Start { worker: "w1".to_owned() }, succeed(1), retry(3), cancel()] {
        Calls::with(()).given_no_previous_events().when(command).then_expect_error(Error::NotRequested);
    }
}

#[test]
fn only_one_worker_claims() {
    let start = || Command::Start { worker: "w1".to_owned() };
    Calls::with(()).given(vec![requested()]).when(start()).then_expect_events(vec![started()]);
    Calls::with(()).given(vec![requested(), started()]).when(start()).then_expect_error(Error::AlreadyStarted);
}

#[test]
fn an_outcome_needs_no_claim_unless_there_is_one() {
    Calls::with(()).given(vec![requested()]).when(succeed(1)).then_expect_events(vec![succeeded(1)]);
    Calls::with(()).given(vec![requested(), started()]).when(succeed(1)).then_expect_events(vec![succeeded(1)]);
    Calls::with(())
        .given(vec![requested(), started(), retried(2)])
        .when(succeed(1))
        .then_expect_error(Error::ClaimLost { attempt: 1, current: 2 });
}

#[test]
fn a_call_is_taken_over_as_often_as_its_contract_allows() {
    Calls::with(()).given(vec![requested(), started()]).when(retry(2)).then_expect_events(vec![retried(2)]);
    Calls::with(())
        .given(vec![requested(), started(), retried(2)])
        .when(retry(2))
        .then_expect_error(Error::AttemptsExhausted { max_attempts: 2 });
    Calls::with(())
        .given(vec![requested(), started()])
        .when(retry(1))
        .then_expect_error(Error::AttemptsExhausted { max_attempts: 1 });
}

#[test]
fn a_result_made_for_an_earlier_call_says_so() {
    for stale in [false, true] {
        let ToolCallEvent::ToolCallSucceeded(own) = succeeded(1) else { panic!("another event") };
        let event = ToolCallEvent::ToolCallSucceeded(ToolCallSucceeded {
            duration_ms: 0,
            cached: true,
            stale,
            source_call_id: Some(CallId(Uuid::from_u128(7))),
            age_seconds: Some(40),
            ..own
        });
        Calls::with(()).given(vec![requested()]).when(reused(stale)).then_expect_events(vec![event.clone()]);
        let call = fold([requested(), event]);
        assert_eq!((call.cached, call.stale, call.attempts), (true, stale, 1));
    }
}

#[test]
fn a_call_may_be_tried_again_without_a_claim_and_has_one_from_then_on() {
    Calls::with(()).given(vec![requested()]).when(retry(2)).then_expect_events(vec![retried(2)]);
    Calls::with(()).given(vec![requested()]).when(retry(1)).then_expect_error(Error::AttemptsExhausted { max_attempts: 1 });
    Calls::with(())
        .given(vec![requested(), retried(2)])
        .when(succeed(1))
        .then_expect_error(Error::ClaimLost { attempt: 1, current: 2 });
}

#[test]
fn nothing_follows_an_outcome() {
    for command in [Command::Start { worker: "w1".to_owned() }, succeed(1), retry(9), cancel()] {
        Calls::with(())
            .given(vec![requested(), succeeded(1)])
            .when(command)
            .then_expect_error(Error::AlreadyFinished(Status::Succeeded));
    }
}

#[test]
fn the_fold_tolerates_duplicates() {
    let once = fold([requested(), started(), succeeded(1)]);
    let twice = fold([requested(), requested(), started(), started(), succeeded(1), succeeded(1), started()]);
    assert_eq!(once, twice);
    assert_eq!(once.status, Some(Status::Succeeded));
    assert_eq!(once.attempts, 1);
}

fn fold(events: impl IntoIterator<Item = ToolCallEvent>) -> ToolCall {
    let mut call = ToolCall::default();
    for event in events {
        call.evolve(event);
    }
    call
}
