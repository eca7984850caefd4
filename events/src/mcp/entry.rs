use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Definition, Rules};

/// What the workers have seen of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The definition that was seen first, where the first is trusted.
    pub first: Option<Definition>,
    /// When that was.
    pub first_at: Option<DateTime<Utc>>,
    /// What the server says now; nothing when it says nothing of the tool any more.
    pub live: Option<Definition>,
    pub rules: Rules,
}

/// A definition that an operator has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    pub definition: Definition,
    /// One more than that of the contract before.
    pub version: u32,
    pub at: DateTime<Utc>,
    /// The user who accepted it, as the operator's machine knows them.
    pub by: String,
}

/// All that is known of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub sighting: Option<Sighting>,
    pub acceptance: Option<Acceptance>,
}

/// Whether a tool can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// What the server says is what is pinned.
    Ready,
    /// The server says something else than what is pinned.
    Quarantined,
    /// Nothing is pinned yet.
    Waiting,
    /// The server does not have the tool any more.
    Withdrawn,
}

impl Sighting {
    /// What is known after the server was asked again: `live` is what it says of the tool now. With `trust_first` a tool that
    /// nobody has seen before is pinned as it is.
    pub fn after(before: Option<Self>, live: Option<Definition>, rules: Rules, trust_first: bool, now: DateTime<Utc>) -> Self {
        let (first, first_at) = match before {
            Some(before) => (before.first, before.first_at),
            None if trust_first => (live.clone(), live.as_ref().map(|_| now)),
            None => (None, None),
        };
        Self { first, first_at, live, rules }
    }
}

impl Entry {
    /// The definition that calls are checked against: what was accepted last, else what was seen first.
    pub fn pinned(&self) -> Option<&Definition> {
        let first = || self.sighting.as_ref()?.first.as_ref();
        self.acceptance.as_ref().map(|acceptance| &acceptance.definition).or_else(first)
    }

    /// What the server says now.
    pub fn live(&self) -> Option<&Definition> {
        self.sighting.as_ref()?.live.as_ref()
    }

    /// The version of the contract.
    pub fn version(&self) -> u32 {
        self.acceptance.as_ref().map_or(1, |acceptance| acceptance.version)
    }

    pub fn state(&self) -> State {
        match (self.pinned(), self.live()) {
            (_, None) => State::Withdrawn,
            (None, Some(_)) => State::Waiting,
            (Some(pinned), Some(live)) if pinned == live => State::Ready,
            (Some(_), Some(_)) => State::Quarantined,
        }
    }

    /// The acceptance of what the server says now, unless that has been accepted. What was pinned as the first of its kind may be
    /// accepted too: no worker can change it from then on.
    pub fn accept(&self, by: String, at: DateTime<Utc>) -> Option<Acceptance> {
        let accepted = self.acceptance.as_ref().map(|acceptance| &acceptance.definition);
        let definition = self.live().filter(|live| accepted != Some(live))?.clone();
        let changes = self.pinned().is_some_and(|pinned| *pinned != definition);
        let version = if changes { self.version().saturating_add(1) } else { self.version() };
        Some(Acceptance { definition, version, at, by })
    }
}

impl State {
    /// As it is shown to operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Quarantined => "quarantined",
            Self::Waiting => "waiting",
            Self::Withdrawn => "withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::SideEffects;

    const RULES: Rules = Rules { side_effects: SideEffects::Effectful, timeout_ms: 1 };

    fn definition(description: &str) -> Option<Definition> {
        let name = "t".to_owned();
        let description = Some(description.to_owned());
        Some(Definition { name, title: None, description, input_schema: json!({}), output_schema: None, annotations: None })
    }

    fn seen(entry: Entry, live: Option<Definition>, trust_first: bool) -> Entry {
        let sighting = Sighting::after(entry.sighting, live, RULES, trust_first, DateTime::UNIX_EPOCH);
        Entry { sighting: Some(sighting), ..entry }
    }

    fn accepted(entry: Entry) -> Entry {
        let acceptance = entry.accept("ada".to_owned(), DateTime::UNIX_EPOCH).or(entry.acceptance);
        Entry { acceptance, ..entry }
    }

    #[test]
    fn the_first_sight_is_trusted_and_no_other() {
        let entry = seen(Entry::default(), definition("a"), true);
        assert_eq!((entry.state(), entry.pinned()), (State::Ready, definition("a").as_ref()));
        let entry = seen(entry, definition("b"), true);
        assert_eq!((entry.state(), entry.pinned()), (State::Quarantined, definition("a").as_ref()));
        // What is pinned may be run whenever it is what the server says.
        assert_eq!(seen(entry, definition("a"), true).state(), State::Ready);
    }

    #[test]
    fn an_accepted_change_is_pinned_under_the_next_version() {
        let entry = seen(seen(Entry::default(), definition("a"), true), definition("b"), true);
        let entry = accepted(entry);
        assert_eq!((entry.state(), entry.pinned(), entry.version()), (State::Ready, definition("b").as_ref(), 2));
        assert_eq!(entry.accept("ada".to_owned(), DateTime::UNIX_EPOCH), None, "there is nothing left to accept");
        let entry = seen(entry, definition("a"), true);
        assert_eq!(entry.state(), State::Quarantined, "what was pinned once is not for ever");
        assert_eq!(accepted(entry).version(), 3);
    }

    #[test]
    fn without_trust_everything_waits() {
        let entry = seen(Entry::default(), definition("a"), false);
        assert_eq!((entry.state(), entry.pinned()), (State::Waiting, None));
        // That the setting is changed later says nothing about what was seen before.
        let entry = seen(entry, definition("a"), true);
        assert_eq!(entry.state(), State::Waiting);
        let entry = accepted(entry);
        assert_eq!((entry.state(), entry.version()), (State::Ready, 1));
    }

    #[test]
    fn a_withdrawn_tool_keeps_its_pin() {
        let entry = seen(seen(Entry::default(), definition("a"), true), None, true);
        assert_eq!((entry.state(), entry.pinned()), (State::Withdrawn, definition("a").as_ref()));
        assert_eq!(seen(entry, definition("b"), true).state(), State::Quarantined);
    }
}
