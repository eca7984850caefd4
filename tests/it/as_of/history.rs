//! Histories that nobody thought of: calls in every order that the rules allow, in old and new versions, with refusals and with what
//! nobody understands in between.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use toolgate_events::{CallId, CallSubject, Envelope, Form, Lane, TenantId, sealing};
use toolgate_store::{Clock, Expect};
use uuid::Uuid;

use crate::app::{PARTITIONS, Stack};

/// A lane that no worker serves: what comes of these calls is told here.
const LANE: &str = "nobody";
pub const SESSIONS: [&str; 4] = ["s1", "a/b ?#%+&=", "größe 😀", ".hidden"];
const TOOLS: [&str; 4] = ["task.create", "document.render", "knowledge.search", "http.request"];
const PRINCIPALS: [&str; 3] = ["ada", "grace", "åsa"];

/// Equal numbers for equal seeds (splitmix64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// A seed of this moment, which a failing test shows.
    pub fn thrown() -> Self {
        let seed = Clock::system().new_id().as_u64_pair().1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// A call that has no outcome yet.
#[derive(Clone, Debug)]
struct Open {
    id: Uuid,
    tool: &'static str,
    sequence: u64,
    attempt: u32,
}

/// A history of one tenant, in the order of its positions.
pub fn history(dice: &mut Dice, tenant: TenantId, length: usize) -> Vec<Envelope> {
    let midnight: DateTime<Utc> = "2026-03-31T00:00:00Z".parse().unwrap();
    let mut open: Vec<Open> = Vec::new();
    let mut events: Vec<Envelope> = Vec::new();
    while events.len() < length {
        // In the middle the day ends; appenders' clocks differ by up to 0.3 s.
        let since = i64::try_from(events.len()).unwrap() - i64::try_from(length / 2).unwrap();
        let skew = i64::try_from(dice.below(600)).unwrap() - 300;
        let occurred_at = midnight + TimeDelta::milliseconds(since * 100 + skew);
        let (id, aggregate_type, sequence, (event_type, version, data)) = match dice.below(20) {
            0..5 => {
                let call = Open { id: Clock::system().new_id(), tool: dice.one_of(&TOOLS), sequence: 1, attempt: 0 };
                let told = requested(dice, call.tool);
                let id = call.id;
                open.push(call);
                (id, "tool_call", 1, told)
            }
            5 => (Clock::system().new_id(), "tool_call", 1, not_understood(dice)),
            6..8 => (Clock::system().new_id(), "refusal", 1, refused(dice)),
            _ if open.is_empty() => continue,
            _ => {
                let index = usize::try_from(dice.below(open.len() as u64)).unwrap();
                let call = &mut open[index];
                call.sequence += 1;
                let (told, is_outcome) = go_on(dice, call);
                let (id, sequence) = (call.id, call.sequence);
                if is_outcome {
                    open.remove(index);
                }
                (id, "tool_call", sequence, told)
            }
        };
        // In versions that are sealed the content is as it was said; it is sealed on its way into the log.
        let form = if sealing::members(event_type, version).is_empty() { Form::Recorded } else { Form::Open };
        events.push(Envelope {
            event_id: Clock::system().new_id(),
            event_type: event_type.to_owned(),
            event_version: version,
            tenant_id: tenant,
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: CallId(id),
            aggregate_sequence: sequence,
            correlation_id: id,
            causation_id: None,
            actor: "tester".to_owned(),
            occurred_at,
            trace_context: None,
            data,
            form,
        });
    }
    events
}

type Told = (&'static str, u32, Value);

fn requested(dice: &mut Dice, tool: &str) -> Told {
    let arguments = match tool {
        "document.render" => json!({"title": "T", "markdown": "x".repeat(dice.below(50) as usize + 1), "format": "html"}),
        _ => json!({"title": "größe".repeat(dice.below(5) as usize + 1)}),
    };
    let mut data = json!({"tool": tool, "lane": LANE, "arguments": arguments, "request_fingerprint": "f"});
    // One in five belongs to no session.
    if dice.below(5) > 0 {
        data["session_id"] = json!(dice.one_of(&SESSIONS));
    }
    let principal = dice.one_of(&PRINCIPALS);
    if dice.below(3) == 0 {
        let old = json!({"principal": principal, "roles": ["agent"], "policy_version": "p"});
        data.as_object_mut().unwrap().extend(old.as_object().unwrap().clone());
        return ("tool_call_requested", 1, data);
    }
    data["options"] = json!({});
    data["authorization"] = json!({
        "policy_version": "p", "rule": "r", "principal": principal, "roles": ["agent"], "permissions": [], "tool_version": 1,
        "contract_hash": "c"
    });
    ("tool_call_requested", 2 + dice.below(2) as u32, data)
}

fn go_on(dice: &mut Dice, call: &mut Open) -> (Told, bool) {
    let tool = call.tool;
    let attempt = call.attempt.max(1);
    let duration_ms = if dice.below(2) == 0 { dice.below(16) } else { dice.below(100_000) };
    match dice.below(8) {
        0 if call.attempt == 0 => {
            call.attempt = 1;
            (("tool_call_started", 1, json!({"tool": tool, "attempt": 1, "worker": "w"})), false)
        }
        0 | 1 => {
            call.attempt = attempt + 1;
            (("tool_call_retried", 1, json!({"tool": tool, "attempt": attempt + 1, "worker": "w", "reason": "lost"})), false)
        }
        2 => {
            let data = json!({"tool": tool, "principal": "ada", "requested_event_id": Uuid::nil()});
            (("tool_call_cancelled", 1, data), true)
        }
        3 => {
            let error = json!({"type": "urn:toolgate:tool:timeout", "title": "Too late", "detail": "no answer"});
            let data = json!({"tool": tool, "attempt": attempt, "worker": "w", "duration_ms": duration_ms, "error": error});
            (("tool_call_failed", 1 + dice.below(2) as u32, data), true)
        }
        kind => {
            let result = match tool {
                "task.create" => json!({"task_id": Uuid::new_v5(&call.id, b"task")}),
                "document.render" => json!({
                    "artifact_id": Uuid::new_v5(&call.id, b"artifact"), "content_type": "text/html", "size": 5, "sha256": "00"
                }),
                _ => json!({"hits": "x".repeat(dice.below(40) as usize)}),
            };
            let mut data = json!({"tool": tool, "attempt": attempt, "worker": "w", "duration_ms": duration_ms, "result": result});
            if kind == 4 {
                return (("tool_call_succeeded", 1, data), true);
            }
            // Only what makes nothing is ever answered with an earlier result.
            let cached = kind == 5 && ["knowledge.search", "http.request"].contains(&tool);
            data["cached"] = json!(cached);
            data["stale"] = json!(cached && dice.below(2) == 0);
            (("tool_call_succeeded", 2 + dice.below(2) as u32, data), true)
        }
    }
}

fn refused(dice: &mut Dice) -> Told {
    let refused = dice.below(100) + 1;
    let mut data = json!({"refused": refused, "window_seconds": 60});
    if dice.below(3) > 0 {
        data["tool"] = json!(dice.one_of(&TOOLS));
    }
    let (event_type, more) = if dice.below(2) == 0 {
        let more = json!({"permission": "p", "policy_version": "v", "rule": "r", "roles": [], "permissions": []});
        ("tool_call_denied", more)
    } else {
        ("rate_limit_exceeded", json!({"policy": "tool", "limit": 5}))
    };
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (event_type, 1, data)
}

/// What is set aside: it counts nowhere, and has its position all the same.
fn not_understood(dice: &mut Dice) -> Told {
    let (event_type, version, mut data) = requested(dice, "task.create");
    match dice.below(3) {
        0 => ("tool_call_paused", 1, data),
        1 => (event_type, 99, data),
        _ => {
            data["arguments"]["title"] = json!("a\0b");
            (event_type, version, data)
        }
    }
}

/// Appends the events in their order.
pub async fn append<'a>(stack: &Stack, events: impl IntoIterator<Item = &'a Envelope>) {
    let log = stack.log().await;
    let mut last = std::collections::HashMap::new();
    for event in events {
        let lane = if event.aggregate_type == "refusal" { Lane::refusal() } else { Lane::new(LANE).unwrap() };
        let subject = CallSubject::new(PARTITIONS, event.tenant_id, lane, event.aggregate_id);
        let expect = Expect(last.get(&event.aggregate_id).copied().unwrap_or_default());
        let sequence = log.append(&subject, event, expect, None, Duration::from_secs(5)).await.unwrap();
        last.insert(event.aggregate_id, sequence);
    }
}
