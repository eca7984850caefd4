//! The rules of tasks: which status may follow which, and what a task is after a change.
//!
//! A change is decided against the task as all earlier changes left it: the changes of one task are decided one after another, in
//! the order in which they were requested (`docs/adr/0009-task-changes-in-order.md`). Its outcome holds the whole task and its new
//! version, so that what was recorded as done is what is shown, and a change that was refused is a failed call.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    serde_text,
    tools::{TaskCreateInput, TaskUpdateInput},
};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum TaskStatus {
    Open,
    InProgress,
    Blocked,
    Done,
    Cancelled,
}

/// A task at one of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    pub title: String,
    pub description: Option<String>,
    pub assignee: Option<String>,
    #[serde(with = "serde_text::optional_timestamp")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub due: Option<DateTime<Utc>>,
    pub labels: Vec<String>,
    pub status: TaskStatus,
    /// 1 when it is created, and one more with every change.
    pub version: u32,
}

/// Why a task was not changed. The words are for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the task is {}: {}", .from.as_str(), .from.way_out())]
    Transition { from: TaskStatus, to: TaskStatus },
    #[error("the task is at version {actual}, not {expected}")]
    Version { expected: u32, actual: u32 },
    #[error("the task has been changed as often as a task can be")]
    Versions,
}

impl TaskStatus {
    pub const ALL: [Self; 5] = [Self::Open, Self::InProgress, Self::Blocked, Self::Done, Self::Cancelled];

    /// The word in arguments, answers and the read model.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InProgress => "in_progress",
            Self::Blocked => "blocked",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// What may follow; the same status again is no transition and always allowed.
    fn next(self) -> &'static [Self] {
        match self {
            Self::Open => &[Self::InProgress, Self::Blocked, Self::Done, Self::Cancelled],
            Self::InProgress => &[Self::Open, Self::Blocked, Self::Done, Self::Cancelled],
            Self::Blocked => &[Self::Open, Self::InProgress, Self::Cancelled],
            Self::Done | Self::Cancelled => &[Self::Open],
        }
    }

    fn way_out(self) -> &'static str {
        match self {
            Self::Open | Self::InProgress => "any status may follow",
            Self::Blocked => "it cannot be done before it is open or in progress again",
            Self::Done | Self::Cancelled => "it can only be reopened, by the status open",
        }
    }

    /// `to`, when it may follow.
    ///
    /// # Errors
    /// [`Refused::Transition`]
    pub fn change_to(self, to: Self) -> Result<Self, Refused> {
        if self == to || self.next().contains(&to) { Ok(to) } else { Err(Refused::Transition { from: self, to }) }
    }
}

impl Task {
    /// The task that `task.create` makes.
    pub fn created(input: TaskCreateInput) -> Self {
        let TaskCreateInput { title, description, assignee, due, labels } = input;
        Self { title, description, assignee, due, labels: labels.unwrap_or_default(), status: TaskStatus::Open, version: 1 }
    }

    /// The task after a change.
    ///
    /// # Errors
    /// [`Refused`]; nothing of the change then applies.
    pub fn changed(self, change: TaskUpdateInput) -> Result<Self, Refused> {
        if let Some(expected) = change.expected_version.filter(|expected| *expected != self.version) {
            return Err(Refused::Version { expected, actual: self.version });
        }
        Ok(Self {
            title: change.title.unwrap_or(self.title),
            description: change.description.unwrap_or(self.description),
            assignee: change.assignee.unwrap_or(self.assignee),
            due: change.due.unwrap_or(self.due),
            labels: change.labels.unwrap_or(self.labels),
            status: change.status.map_or(Ok(self.status), |to| self.status.change_to(to))?,
            version: self.version.checked_add(1).filter(|version| i32::try_from(*version).is_ok()).ok_or(Refused::Versions)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(status: TaskStatus, version: u32) -> Task {
        let input = json!({"title": "T", "description": "D", "assignee": "ada", "due": "2030-01-31T12:00:00Z", "labels": ["a"]});
        Task { status, version, ..Task::created(serde_json::from_value(input).unwrap()) }
    }

    fn change(members: Value) -> TaskUpdateInput {
        let mut input = json!({"task_id": uuid::Uuid::nil()});
        input.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(input).unwrap()
    }

    #[test]
    fn every_pair_of_statuses_is_allowed_or_refused() {
        // A row for each status: what may become of it, in the order of `ALL`.
        let table = [
            (TaskStatus::Open, [true, true, true, true, true]),
            (TaskStatus::InProgress, [true, true, true, true, true]),
            (TaskStatus::Blocked, [true, true, true, false, true]),
            (TaskStatus::Done, [true, false, false, true, false]),
            (TaskStatus::Cancelled, [true, false, false, false, true]),
        ];
        assert_eq!(table.map(|(from, _)| from), TaskStatus::ALL);
        for (from, allowed) in table {
            for (to, allowed) in TaskStatus::ALL.into_iter().zip(allowed) {
                let expected = if allowed { Ok(to) } else { Err(Refused::Transition { from, to }) };
                assert_eq!(from.change_to(to), expected, "{from:?} -> {to:?}");
                let changed = task(from, 1).changed(change(json!({"status": to.as_str()})));
                assert_eq!(changed.map(|task| task.status), expected, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn a_status_has_one_word() {
        for status in TaskStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(TaskStatus::of(status.as_str()), Some(status));
        }
    }

    #[test]
    fn a_change_touches_what_it_names_and_null_clears() {
        let before = task(TaskStatus::Open, 1);
        let next = Task { version: 2, ..before.clone() };
        assert_eq!(before.clone().changed(change(json!({"comment": "seen"}))), Ok(next.clone()));
        assert_eq!(
            before.clone().changed(change(json!({"title": "U", "labels": []}))),
            Ok(Task { title: "U".to_owned(), labels: vec![], ..next.clone() })
        );
        assert_eq!(
            before.changed(change(json!({"description": null, "assignee": null, "due": null}))),
            Ok(Task { description: None, assignee: None, due: None, ..next })
        );
    }

    #[test]
    fn an_expected_version_is_the_present_one_or_nothing_changes() {
        for (expected, fits) in [(2, false), (3, true), (4, false)] {
            let changed = task(TaskStatus::Open, 3).changed(change(json!({"title": "U", "expected_version": expected})));
            assert_eq!(changed.is_ok(), fits, "{expected}");
        }
    }

    #[test]
    fn versions_end_where_the_database_cannot_count_further() {
        let last = i32::MAX.unsigned_abs();
        assert_eq!(task(TaskStatus::Open, last - 1).changed(change(json!({"title": "U"}))).map(|task| task.version), Ok(last));
        assert_eq!(task(TaskStatus::Open, last).changed(change(json!({"title": "U"}))), Err(Refused::Versions));
    }
}
