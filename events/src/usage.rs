//! What a tenant used: what each event adds to the day on which it occurred and to the tool it is about.

use crate::{
    Event, RefusalEvent, ToolCallEvent,
    audit::AuditRow,
    canonical,
    latency::Latency,
    sealing::{self, Member, Sealed},
};

/// The most that one event can add to a sum. Only what a stranger wrote to the log is larger, and must not make a sum overflow.
const MOST: u64 = u32::MAX as u64;
/// Longer than any contract's name can be.
const LONGEST_TOOL: usize = 128;

/// What was used, as sums. Everything in it can be added up, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub requested: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Of those that succeeded, the ones answered with an earlier result.
    pub cached: u64,
    /// As outcomes record them.
    pub attempts: u64,
    pub retries: u64,
    /// Requests that the policy refused.
    pub denied: u64,
    /// Requests over a limit.
    pub rate_limited: u64,
    /// Of the arguments of requested calls, as canonical JSON.
    pub bytes_in: u64,
    /// Of the results of calls that succeeded, as canonical JSON.
    pub bytes_out: u64,
    /// Of runs.
    pub duration_ms: u64,
    pub latency: Latency,
}

impl Usage {
    /// What an event adds, and to which tool; without one for refusals that name none. `None` for what uses nothing.
    pub fn of<'a>(row: &AuditRow, event: &'a Event) -> Option<(Option<&'a str>, Self)> {
        match event {
            Event::ToolCall(event) => Self::of_call(row, event).map(|(tool, usage)| (tool_name(tool), usage)),
            Event::Refusal(refusal) => {
                let refused = refusal.refused().min(MOST);
                Some(match refusal {
                    RefusalEvent::ToolCallDenied(denied) => {
                        (denied.tool.as_deref().and_then(tool_name), Self { denied: refused, ..Self::default() })
                    }
                    RefusalEvent::RateLimitExceeded(exceeded) => {
                        (exceeded.tool.as_deref().and_then(tool_name), Self { rate_limited: refused, ..Self::default() })
                    }
                })
            }
            Event::Erasure(_) => None,
        }
    }

    fn of_call<'a>(row: &AuditRow, event: &'a ToolCallEvent) -> Option<(&'a str, Self)> {
        Some(match event {
            ToolCallEvent::ToolCallRequested(requested) => {
                let bytes_in = content_bytes(row, Member::Arguments);
                (requested.tool.as_str(), Self { requested: 1, bytes_in, ..Self::default() })
            }
            ToolCallEvent::ToolCallStarted(_) => return None,
            ToolCallEvent::ToolCallRetried(retried) => (retried.tool.as_str(), Self { retries: 1, ..Self::default() }),
            ToolCallEvent::ToolCallSucceeded(succeeded) => {
                let mut usage = Self {
                    succeeded: 1,
                    cached: u64::from(succeeded.cached),
                    attempts: succeeded.attempt.into(),
                    bytes_out: content_bytes(row, Member::Result),
                    ..Self::default()
                };
                // What an earlier call had run was counted there.
                if !succeeded.cached {
                    usage.add_run(succeeded.duration_ms);
                }
                (succeeded.tool.as_str(), usage)
            }
            ToolCallEvent::ToolCallFailed(failed) => {
                let mut usage = Self { failed: 1, attempts: failed.attempt.into(), ..Self::default() };
                usage.add_run(failed.duration_ms);
                (failed.tool.as_str(), usage)
            }
            ToolCallEvent::ToolCallCancelled(cancelled) => (cancelled.tool.as_str(), Self { cancelled: 1, ..Self::default() }),
        })
    }

    fn add_run(&mut self, duration_ms: u64) {
        self.duration_ms += duration_ms.min(MOST);
        self.latency.add(duration_ms);
    }

    /// Everything that another one counts as well.
    pub fn merge(&mut self, other: &Self) {
        self.requested += other.requested;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.cached += other.cached;
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.denied += other.denied;
        self.rate_limited += other.rate_limited;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.duration_ms += other.duration_ms;
        self.latency.merge(&other.latency);
    }
}

/// A tool's name, unless it is none that a contract could have.
pub(crate) fn tool_name(name: &str) -> Option<&str> {
    ((1..=LONGEST_TOOL).contains(&name.len()) && !name.chars().any(char::is_control)).then_some(name)
}

/// The size of a member of an event's data, as canonical JSON. Where the member is sealed it is the size of what was sealed, which the
/// seal tells without being opened: so it stays the same when nobody can open it any more.
fn content_bytes(row: &AuditRow, member: Member) -> u64 {
    let Some(value) = row.data.pointer(member.pointer()) else { return 0 };
    let is_sealed = sealing::members(&row.event_type, row.event_version).contains(&member);
    match Sealed::parse(value).filter(|_| is_sealed) {
        Some(Sealed::Jwe(jwe)) => plaintext_bytes(jwe),
        // It was left out, and nobody knows any more how long it was.
        Some(Sealed::Erased) => 0,
        None => canonical::to_string(value).len() as u64,
    }
}

/// The length of what a compact JWE under AES-GCM holds: its fourth part, in base64url without padding, is as long as the plaintext.
fn plaintext_bytes(jwe: &str) -> u64 {
    jwe.split('.').nth(3).map_or(0, |ciphertext| ciphertext.len() as u64 * 3 / 4)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Envelope, upcast};

    /// A golden event with changed data, as a row of the trail.
    fn row(golden: &str, change: impl FnOnce(&mut Value)) -> (AuditRow, Event) {
        let mut envelope: Envelope = serde_json::from_str(golden).unwrap();
        change(&mut envelope.data);
        let event = upcast(&envelope.event_type, envelope.event_version, &envelope.data).unwrap();
        let row = AuditRow {
            position: 1,
            stream_sequence: 1,
            event_id: envelope.event_id,
            event_type: envelope.event_type,
            event_version: envelope.event_version,
            aggregate_type: envelope.aggregate_type,
            aggregate_id: envelope.aggregate_id.0,
            aggregate_sequence: envelope.aggregate_sequence,
            actor: envelope.actor,
            occurred_at: envelope.occurred_at,
            correlation_id: envelope.correlation_id,
            causation_id: None,
            data: envelope.data,
            prev_hash: String::new(),
            hash: String::new(),
        };
        (row, event)
    }

    macro_rules! usage {
        ($golden:literal, $change:expr) => {{
            let (row, event) = row(include_str!(concat!("../golden/", $golden, ".json")), $change);
            Usage::of(&row, &event).map(|(tool, usage)| (tool.map(str::to_owned), usage))
        }};
        ($golden:literal) => {
            usage!($golden, |_| ())
        };
    }

    #[test]
    fn each_event_adds_what_it_says() {
        let task = Some("task.create".to_owned());
        let arguments = r#"{"labels":["audit","größe"],"title":"Review the report"}"#.len() as u64;
        let requested = Usage { requested: 1, bytes_in: arguments, ..Usage::default() };
        assert_eq!(usage!("tool_call_requested.v1"), Some((task.clone(), requested.clone())));
        assert_eq!(usage!("tool_call_requested.v2"), Some((task.clone(), requested)));
        assert_eq!(usage!("tool_call_started.v1"), None);
        assert_eq!(usage!("tool_call_retried.v1"), Some((task.clone(), Usage { retries: 1, ..Usage::default() })));
        let mut latency = Latency::default();
        latency.add(12);
        let bytes_out = r#"{"task_id":"0f8fad5b-d9cb-569f-a165-70867728950e"}"#.len() as u64;
        let run = Usage { attempts: 2, duration_ms: 12, latency, ..Usage::default() };
        let succeeded = Usage { succeeded: 1, bytes_out, ..run.clone() };
        assert_eq!(usage!("tool_call_succeeded.v1"), Some((task.clone(), succeeded)));
        assert_eq!(usage!("tool_call_failed.v1"), Some((task.clone(), Usage { failed: 1, ..run })));
        assert_eq!(usage!("tool_call_cancelled.v1"), Some((task.clone(), Usage { cancelled: 1, ..Usage::default() })));
        assert_eq!(usage!("tool_call_denied.v1"), Some((task.clone(), Usage { denied: 17, ..Usage::default() })));
        assert_eq!(usage!("rate_limit_exceeded.v1"), Some((task, Usage { rate_limited: 940, ..Usage::default() })));
    }

    #[test]
    fn a_result_of_an_earlier_call_is_no_run() {
        let (tool, usage) = usage!("tool_call_succeeded.v2").unwrap();
        assert_eq!(tool.as_deref(), Some("http.request"));
        assert_eq!((usage.succeeded, usage.cached, usage.latency.runs(), usage.duration_ms), (1, 1, 0, 0));
        assert!(usage.bytes_out > 0);
    }

    #[test]
    fn what_is_sealed_counts_as_long_as_it_is() {
        // Of 1, 2, 3 and 300 bytes.
        for (length, bytes) in [(2, 1), (3, 2), (4, 3), (400, 300)] {
            let jwe = format!("e30..AAAA.{}.AAAA", "A".repeat(length));
            let (mut row, event) = row(include_str!("../golden/tool_call_requested.v2.json"), |_| ());
            let bytes_in = |row: &AuditRow| Usage::of(row, &event).unwrap().1.bytes_in;
            row.data["arguments"] = json!({"jwe": jwe});
            // Before anything was sealed, such a member is what somebody sent.
            assert_eq!(bytes_in(&row), row.data["arguments"].to_string().len() as u64);
            row.event_version = 3;
            assert_eq!(bytes_in(&row), bytes);
            row.data["arguments"] = json!({"erased": true});
            assert_eq!(bytes_in(&row), 0);
        }
    }

    #[test]
    fn what_a_stranger_writes_makes_no_sum_overflow_and_no_tool() {
        let (_, usage) = usage!("tool_call_failed.v1", |data| data["duration_ms"] = json!(u64::MAX)).unwrap();
        assert_eq!(usage.duration_ms, MOST);
        let (_, usage) = usage!("tool_call_denied.v1", |data| data["refused"] = json!(u64::MAX)).unwrap();
        assert_eq!(usage.denied, MOST);
        for (name, known) in [("x".repeat(128), true), ("x".repeat(129), false), (String::new(), false), ("a\nb".into(), false)] {
            let (tool, _) = usage!("tool_call_cancelled.v1", |data| data["tool"] = json!(name)).unwrap();
            assert_eq!(tool.is_some(), known, "{name:?}");
        }
    }
}
