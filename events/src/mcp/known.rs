use std::collections::{BTreeMap, HashMap};

use super::{Acceptance, Entry, Rules, Sighting, State, ToolName};
use crate::tools::Contract;

/// Contracts of upstream tools that one process makes in its life; further changes need a new process.
const MAX_CONTRACTS: usize = 16_384;

/// The upstream tools as far as a process has read of them.
#[derive(Debug, Default)]
pub struct Known {
    entries: BTreeMap<ToolName, Entry>,
    /// Contracts live for ever, so each is made once.
    made: HashMap<(ToolName, String, Rules, u32), &'static Contract>,
}

/// One change, as it is kept. Nothing: what was kept is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Seen(Option<Sighting>),
    Accepted(Option<Acceptance>),
}

impl Known {
    pub fn note(&mut self, name: ToolName, change: Change) {
        let entry = self.entries.entry(name.clone()).or_default();
        match change {
            Change::Seen(sighting) => entry.sighting = sighting,
            Change::Accepted(acceptance) => entry.acceptance = acceptance,
        }
        if *entry == Entry::default() {
            self.entries.remove(&name);
        }
    }

    /// Everything, in the order of the names.
    pub fn entries(&self) -> impl Iterator<Item = (&ToolName, &Entry)> {
        self.entries.iter()
    }

    pub fn get(&self, name: &ToolName) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The contracts of what can be called, and of what is quarantined: it is not offered, but calls of it are answered.
    pub fn contracts(&mut self) -> (Vec<&'static Contract>, Vec<&'static Contract>) {
        let (mut ready, mut quarantined) = (Vec::new(), Vec::new());
        for (name, entry) in &self.entries {
            let list = match entry.state() {
                State::Ready => &mut ready,
                State::Quarantined => &mut quarantined,
                State::Waiting | State::Withdrawn => continue,
            };
            let (Some(pinned), Some(sighting)) = (entry.pinned(), &entry.sighting) else { continue };
            // Whoever may write here is not always whoever has checked.
            if pinned.check().is_err() {
                continue;
            }
            let key = (name.clone(), pinned.hash(), sighting.rules, entry.version());
            let room = self.made.len() < MAX_CONTRACTS;
            match self.made.get(&key) {
                Some(contract) => list.push(*contract),
                None if room => {
                    let made = Contract::of_upstream(name, pinned, sighting.rules, entry.version());
                    let contract: &'static Contract = Box::leak(Box::new(made));
                    self.made.insert(key, contract);
                    list.push(contract);
                }
                None => {}
            }
        }
        (ready, quarantined)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;
    use crate::{mcp::Definition, tools::SideEffects};

    fn seen(first: &str, live: Option<&str>) -> Change {
        let rules = Rules { side_effects: SideEffects::ReadOnly, timeout_ms: 1_000 };
        let definition = |description: &str| Definition {
            name: "t".to_owned(),
            title: None,
            description: Some(description.to_owned()),
            input_schema: json!({}),
            output_schema: None,
            annotations: None,
        };
        let first_at = Some(DateTime::UNIX_EPOCH);
        Change::Seen(Some(Sighting { first: Some(definition(first)), first_at, live: live.map(definition), rules }))
    }

    fn names(contracts: &[&'static Contract]) -> Vec<&'static str> {
        contracts.iter().map(|contract| contract.name).collect()
    }

    #[test]
    fn what_is_pinned_is_offered_and_what_has_changed_is_not() {
        let mut known = Known::default();
        let name = |tool: &str| ToolName::new("s", tool).unwrap();
        known.note(name("a"), seen("x", Some("x")));
        known.note(name("b"), seen("x", Some("y")));
        known.note(name("c"), seen("x", None));
        let (ready, quarantined) = known.contracts();
        assert_eq!((names(&ready), names(&quarantined)), (vec!["mcp.s.a"], vec!["mcp.s.b"]));
        let (again, _) = known.contracts();
        assert!(std::ptr::eq(ready[0], again[0]), "a contract is made once");
        known.note(name("a"), Change::Seen(None));
        assert!(known.get(&name("a")).is_none() && known.contracts().0.is_empty());
    }
}
