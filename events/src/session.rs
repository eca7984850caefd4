//! What the events of a session come to. A session is what calls name in `session_id`; it needs no making and has no end.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::{Status, ToolCallEvent, usage::tool_name};

/// The most milliseconds that one event can add: only what a stranger wrote to the log says more.
const MOST: u64 = u32::MAX as u64;

/// A session, or what some of its events add to it: everything in it can be added up, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Of the first event; 0 before there is one.
    pub first_position: u64,
    pub first_at: DateTime<Utc>,
    /// Of the last event.
    pub position: u64,
    pub last_at: DateTime<Utc>,
    /// Who made the calls: the first [`Session::MAX_PRINCIPALS`] by name.
    pub principals: BTreeSet<String>,
    /// What came of its calls.
    pub total: CallCounts,
    /// Calls that a worker has claimed and that have no outcome. Negative where the claim was added before.
    pub running: i64,
    pub artifacts: u64,
    pub tasks: u64,
    pub tools: BTreeMap<String, CallCounts>,
}

/// What came of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    pub calls: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Of those that succeeded, the ones answered with an earlier result.
    pub cached: u64,
    /// As outcomes record them.
    pub attempts: u64,
    /// Of runs.
    pub duration_ms: u64,
    pub max_duration_ms: u64,
}

impl Session {
    pub const MAX_PRINCIPALS: usize = 20;
    /// The tool whose outcomes are artifacts.
    pub const MAKES_ARTIFACTS: &str = "document.render";
    /// The tool whose outcomes are tasks.
    pub const MAKES_TASKS: &str = "task.create";

    /// Whether an id is one that the entrance lets in. Others are a stranger's, and no session.
    pub fn is_id(id: &str) -> bool {
        !id.is_empty() && id.chars().count() <= 128 && !id.chars().any(char::is_control)
    }

    /// Adds an event of one of its calls, which had this status before; `None` when it was never requested. Answers with the status
    /// afterwards. What changes nothing of a call, because a stranger wrote it, changes nothing here.
    pub fn add(
        &mut self,
        position: u64,
        occurred_at: DateTime<Utc>,
        before: Option<Status>,
        event: &ToolCallEvent,
    ) -> Option<Status> {
        let Some(after) = status_after(before, event) else { return before };
        self.stretch(position, occurred_at);
        self.running += i64::from(after == Status::Running) - i64::from(before == Some(Status::Running));
        let (tool, counts) = CallCounts::of(event);
        self.total.merge(&counts);
        if let Some(tool) = tool_name(tool).filter(|_| counts != CallCounts::default()) {
            self.tools.entry(tool.to_owned()).or_default().merge(&counts);
        }
        match event {
            ToolCallEvent::ToolCallRequested(requested) => {
                self.principals.insert(requested.authorization.principal.clone());
                while self.principals.len() > Self::MAX_PRINCIPALS {
                    self.principals.pop_last();
                }
            }
            // What an earlier call made was counted there.
            ToolCallEvent::ToolCallSucceeded(succeeded) if !succeeded.cached => {
                self.artifacts += u64::from(succeeded.tool == Self::MAKES_ARTIFACTS);
                self.tasks += u64::from(succeeded.tool == Self::MAKES_TASKS);
            }
            _ => {}
        }
        Some(after)
    }

    fn stretch(&mut self, position: u64, occurred_at: DateTime<Utc>) {
        if self.first_position == 0 || position < self.first_position {
            (self.first_position, self.first_at) = (position, occurred_at);
        }
        if position > self.position {
            (self.position, self.last_at) = (position, occurred_at);
        }
    }
}

impl CallCounts {
    fn of(event: &ToolCallEvent) -> (&str, Self) {
        let none = Self::default();
        let run = |attempt: u32, duration_ms: u64, was_run: bool| {
            let duration_ms = if was_run { duration_ms.min(MOST) } else { 0 };
            Self { attempts: attempt.into(), duration_ms, max_duration_ms: duration_ms, ..none }
        };
        match event {
            ToolCallEvent::ToolCallRequested(requested) => (&requested.tool, Self { calls: 1, ..none }),
            ToolCallEvent::ToolCallStarted(started) => (&started.tool, none),
            ToolCallEvent::ToolCallRetried(retried) => (&retried.tool, none),
            ToolCallEvent::ToolCallSucceeded(succeeded) => {
                let run = run(succeeded.attempt, succeeded.duration_ms, !succeeded.cached);
                (&succeeded.tool, Self { succeeded: 1, cached: succeeded.cached.into(), ..run })
            }
            ToolCallEvent::ToolCallFailed(failed) => {
                (&failed.tool, Self { failed: 1, ..run(failed.attempt, failed.duration_ms, true) })
            }
            ToolCallEvent::ToolCallCancelled(cancelled) => (&cancelled.tool, Self { cancelled: 1, ..none }),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.cached += other.cached;
        self.attempts += other.attempts;
        self.duration_ms += other.duration_ms;
        self.max_duration_ms = self.max_duration_ms.max(other.max_duration_ms);
    }
}

/// Where a call stands after an event; `None` when the event changes nothing.
fn status_after(before: Option<Status>, event: &ToolCallEvent) -> Option<Status> {
    let after = match event {
        ToolCallEvent::ToolCallRequested(_) => Status::Requested,
        ToolCallEvent::ToolCallStarted(_) | ToolCallEvent::ToolCallRetried(_) => Status::Running,
        ToolCallEvent::ToolCallSucceeded(_) => Status::Succeeded,
        ToolCallEvent::ToolCallFailed(_) => Status::Failed,
        ToolCallEvent::ToolCallCancelled(_) => Status::Cancelled,
    };
    match before {
        None => (after == Status::Requested).then_some(after),
        Some(before) if before.is_final() => None,
        Some(_) => (after != Status::Requested).then_some(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envelope;

    fn golden(name: &str) -> ToolCallEvent {
        let text = match name {
            "requested" => include_str!("../golden/tool_call_requested.v2.json"),
            "started" => include_str!("../golden/tool_call_started.v1.json"),
            "retried" => include_str!("../golden/tool_call_retried.v1.json"),
            "succeeded" => include_str!("../golden/tool_call_succeeded.v1.json"),
            "cached" => include_str!("../golden/tool_call_succeeded.v2.json"),
            "failed" => include_str!("../golden/tool_call_failed.v1.json"),
            _ => include_str!("../golden/tool_call_cancelled.v1.json"),
        };
        let envelope: Envelope = serde_json::from_str(text).unwrap();
        envelope.event().unwrap().into_tool_call().unwrap()
    }

    /// One call's events, added at these positions.
    fn told(story: &[(u64, &str)]) -> Session {
        let (mut session, mut status) = (Session::default(), None);
        for (position, name) in story {
            let at = DateTime::from_timestamp(i64::try_from(*position).unwrap(), 0).unwrap();
            status = session.add(*position, at, status, &golden(name));
        }
        session
    }

    #[test]
    fn a_call_is_counted_once_wherever_it_stands() {
        for (story, running, outcomes) in [
            (&["requested"][..], 0, [0, 0, 0]),
            (&["requested", "started"], 1, [0, 0, 0]),
            (&["requested", "started", "retried"], 1, [0, 0, 0]),
            (&["requested", "retried", "succeeded"], 0, [1, 0, 0]),
            (&["requested", "failed"], 0, [0, 1, 0]),
            (&["requested", "started", "cancelled"], 0, [0, 0, 1]),
        ] {
            let story: Vec<_> = (1..).zip(story.iter().copied()).collect();
            let session = told(&story);
            let total = session.total;
            assert_eq!((total.calls, session.running), (1, running), "{story:?}");
            assert_eq!([total.succeeded, total.failed, total.cancelled], outcomes, "{story:?}");
            assert_eq!((session.first_position, session.position), (1, story.len() as u64));
            assert_eq!(session.last_at.timestamp(), session.position as i64);
        }
    }

    #[test]
    fn what_cannot_follow_changes_nothing() {
        assert_eq!(told(&[(1, "started"), (2, "succeeded")]), Session::default(), "it was never requested");
        let once = told(&[(1, "requested"), (2, "succeeded")]);
        assert_eq!(told(&[(1, "requested"), (2, "succeeded"), (3, "failed"), (4, "started"), (5, "requested")]), once);
        assert_eq!(once.tools["task.create"], once.total);
        assert_eq!((once.total.attempts, once.total.duration_ms, once.total.max_duration_ms, once.tasks), (2, 12, 12, 1));
    }

    #[test]
    fn an_earlier_calls_result_is_no_run_and_makes_nothing() {
        let mut event = golden("cached");
        let ToolCallEvent::ToolCallSucceeded(succeeded) = &mut event else { unreachable!() };
        (succeeded.tool, succeeded.duration_ms) = ("task.create".to_owned(), 9);
        let mut session = Session::default();
        session.add(2, DateTime::UNIX_EPOCH, Some(Status::Requested), &event);
        assert_eq!((session.total.cached, session.total.duration_ms, session.tasks), (1, 0, 0));
    }

    #[test]
    fn the_principals_are_the_first_by_name_in_whatever_order_they_come() {
        let add = |numbers: &mut dyn Iterator<Item = usize>| {
            let mut session = Session::default();
            for number in numbers {
                let ToolCallEvent::ToolCallRequested(mut requested) = golden("requested") else { unreachable!() };
                requested.authorization.principal = format!("p{number:02}");
                session.add(1, DateTime::UNIX_EPOCH, None, &ToolCallEvent::ToolCallRequested(requested));
            }
            session.principals
        };
        assert_eq!(add(&mut (0..19)).len(), 19);
        assert_eq!(add(&mut (0..20)).len(), 20);
        assert_eq!(add(&mut (0..21)), add(&mut (0..21).rev()));
        assert_eq!(add(&mut (0..21)).last().unwrap(), "p19");
    }

    #[test]
    fn an_id_is_what_the_entrance_lets_in() {
        for (id, is) in
            [("", false), ("s", true), (&"é".repeat(128), true), (&"é".repeat(129), false), ("a\tb", false), ("a/ b", true)]
        {
            assert_eq!(Session::is_id(id), is, "{id:?}");
        }
    }
}
