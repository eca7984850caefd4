use serde_json::{Value, json};

use super::*;

const TENANT: &str = "0197a3c0-0000-7000-8000-000000000001";

/// A golden event, changed.
fn golden(name: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let path = format!("{}/../events/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut event: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut event);
    serde_json::to_vec(&event).unwrap()
}

fn subject() -> String {
    format!("ev.00.{TENANT}.task.6f1d2c3b-8a4e-5c6d-9e0f-112233445566")
}

/// What a policy makes of one event.
fn redecide(policy: &str, payload: &[u8]) -> (Option<Difference>, Summary) {
    let policy = Policy::parse(policy).unwrap();
    let mut redecision = Redecision::under(&policy, DateTime::UNIX_EPOCH..DateTime::<Utc>::MAX_UTC);
    let difference = redecision.decide(&subject(), payload);
    (difference, redecision.summary())
}

fn with_roles(roles: &[&str], name: &str) -> Vec<u8> {
    let path = if name.ends_with("v2") { "/data/authorization/roles" } else { "/data/roles" };
    golden(name, |event| *event.pointer_mut(path).unwrap() = json!(roles))
}

const OPEN: &str = "version = 1\n[roles]\nagent = [\"tool.*.*:invoke\"]\n";
const SHUT: &str = "version = 1\ndeny = [\"tool.task.create:invoke\"]\n[roles]\nagent = [\"tool.*.*:invoke\"]\n";

#[test]
fn a_call_stays_allowed_or_becomes_a_difference() {
    for name in ["tool_call_requested.v1", "tool_call_requested.v2"] {
        let call = with_roles(&["agent"], name);
        let (difference, summary) = redecide(OPEN, &call);
        assert!(difference.is_none());
        assert_eq!((summary.read, summary.still_allowed, summary.now_denied), (1, 1, 0), "{name}");
        let (difference, summary) = redecide(SHUT, &call);
        let difference = difference.unwrap();
        assert_eq!((summary.read, summary.still_allowed, summary.now_denied), (1, 0, 1), "{name}");
        assert_eq!(difference.new_rule, "deny: tool.task.create:invoke");
        assert_eq!((difference.allowed, difference.requests, difference.tool.as_deref()), (false, 1, Some("task.create")));
        assert_eq!(difference.call_id.to_string(), "6f1d2c3b-8a4e-5c6d-9e0f-112233445566");
        assert_eq!(difference.tenant_id.to_string(), TENANT);
        assert_eq!(difference.recorded_rule == "unrecorded", name.ends_with("v1"), "{}", difference.recorded_rule);
    }
}

#[test]
fn another_rule_with_the_same_outcome_is_counted_and_no_difference() {
    let call = |rule: &str| {
        golden("tool_call_requested.v2", |event| {
            event["data"]["authorization"]["roles"] = json!(["agent"]);
            event["data"]["authorization"]["rule"] = json!(rule);
        })
    };
    assert_eq!(redecide(OPEN, &call("role agent: tool.*.*:invoke")).1.by_another_rule, 0);
    let (difference, summary) = redecide(OPEN, &call("token: tool.*.*:invoke"));
    assert!(difference.is_none());
    assert_eq!((summary.still_allowed, summary.by_another_rule), (1, 1));
}

#[test]
fn a_denial_counts_for_as_many_requests_as_it_says() {
    let denial = with_roles(&["agent"], "tool_call_denied.v1");
    let (difference, summary) = redecide(SHUT, &denial);
    assert!(difference.is_none());
    assert_eq!((summary.read, summary.still_denied, summary.now_allowed), (17, 17, 0));
    let (difference, summary) = redecide(OPEN, &denial);
    assert_eq!((summary.read, summary.still_denied, summary.now_allowed), (17, 0, 17));
    let difference = difference.unwrap();
    assert_eq!((difference.allowed, difference.requests, difference.principal.as_str()), (true, 17, "ada"));
    assert_eq!(difference.recorded_rule, "role intern denies tool.task.*:invoke");
    assert_eq!(difference.new_rule, "role agent: tool.*.*:invoke");
    // What the token granted is part of the input.
    let by_token = golden("tool_call_denied.v1", |event| event["data"]["permissions"] = json!(["tool.task.*:invoke"]));
    assert_eq!(redecide("version = 1\n[roles]\n", &by_token).0.unwrap().new_rule, "token: tool.task.*:invoke");
}

#[test]
fn a_denial_of_any_tool_is_decided_by_every_tool_and_one_of_several_principals_not_at_all() {
    let any = golden("tool_call_denied.v1", |event| {
        event["data"]["permission"] = json!(ToolCallDenied::ANY_TOOL);
        event["data"]["roles"] = json!(["agent"]);
        event["data"]["permissions"] = json!([]);
    });
    assert_eq!(redecide("version = 1\n[roles]\nagent = [\"tool_call:read\"]\n", &any).1.still_denied, 17);
    assert_eq!(redecide("version = 1\n[roles]\nagent = [\"tool.task.create:invoke\"]\n", &any).1.now_allowed, 17);
    let several = golden("tool_call_denied.v1", |event| drop(event["data"].as_object_mut().unwrap().remove("principal")));
    let (difference, summary) = redecide(OPEN, &several);
    assert!(difference.is_none());
    assert_eq!(summary, Summary { read: 17, undecidable: 17, ..Summary::default() });
}

#[test]
fn what_cannot_be_read_is_counted_and_what_is_no_decision_passed_over() {
    let unreadable = Summary { unreadable: 1, ..Summary::default() };
    for payload in [
        Vec::new(),
        b"\xff no json".to_vec(),
        golden("tool_call_requested.v2", |event| event["event_version"] = json!(99)),
        golden("tool_call_denied.v1", |event| event["event_version"] = json!(2)),
        golden("tool_call_requested.v2", |event| event["data"] = json!({})),
        golden("tool_call_requested.v2", |event| event["tenant_id"] = json!(Uuid::nil())),
    ] {
        assert_eq!(redecide(OPEN, &payload), (None, unreadable), "{}", String::from_utf8_lossy(&payload));
    }
    let other = golden("tool_call_requested.v2", |event| event["event_type"] = json!("tool_call_teleported"));
    for payload in [other, golden("tool_call_started.v1", |_| ()), golden("rate_limit_exceeded.v1", |_| ())] {
        assert_eq!(redecide(OPEN, &payload), (None, Summary::default()));
    }
}

#[test]
fn the_time_is_from_inclusive_to_exclusive() {
    let policy = Policy::parse(OPEN).unwrap();
    let payload = golden("tool_call_requested.v2", |_| ());
    let at = Envelope::decode(&payload).unwrap().occurred_at;
    let moment = chrono::Duration::microseconds(1);
    let read = |time| {
        let mut redecision = Redecision::under(&policy, time);
        redecision.decide(&subject(), &payload);
        redecision.summary().read
    };
    assert_eq!(read(at..at + moment), 1);
    assert_eq!(read(at - moment..at), 0);
    assert_eq!(read(at + moment..at + moment * 2), 0);
}

#[test]
fn a_line_says_it_all_and_obeys_nobody() {
    let difference = Difference {
        call_id: Uuid::from_u128(1),
        tenant_id: Uuid::from_u128(2),
        principal: "ada\u{1b}[2J\n".to_owned(),
        tool: None,
        requests: 3,
        recorded_rule: "no rule grants it".to_owned(),
        new_rule: "role a: x:y".to_owned(),
        allowed: true,
    };
    let ids = format!("{}  {}", Uuid::from_u128(1), Uuid::from_u128(2));
    let expected = format!("now allowed  {ids}  ada\\u{{1b}}[2J\\n  -  no rule grants it -> role a: x:y  (3 requests)");
    assert_eq!(difference.to_string(), expected);
    let one = Difference { requests: 1, allowed: false, ..difference };
    assert!(one.to_string().starts_with("now denied   ") && !one.to_string().contains("requests"));
}
