//! Comparing two JSON Schemas: does the one refuse something that the other accepts?
//!
//! An input must still accept what the old one accepted, and the old output must still describe what the new one does: the same
//! question with the roles exchanged.

mod branch;

use std::collections::HashSet;

use serde_json::Value;

use self::branch::{Branch, branches};

/// Keywords that are not looked into: where they stay the same, they refuse nothing new.
const OPAQUE: [&str; 15] = [
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// What callers of `old` would notice of `new`, as sentences that begin with the place.
pub(super) fn breaking(side: Side, old: &Value, new: &Value) -> Vec<String> {
    let (from, to) = match side {
        Side::Input => (old, new),
        Side::Output => (new, old),
    };
    if from == to || old.is_null() {
        return Vec::new();
    }
    Comparison { side, from, to, under_way: HashSet::new() }.schemas(from, to, "")
}

/// Finds what `to` refuses of what `from` accepts.
struct Comparison<'a> {
    side: Side,
    from: &'a Value,
    to: &'a Value,
    /// Pairs that are being compared: a type that holds itself comes back to one of them.
    under_way: HashSet<(*const Value, *const Value)>,
}

impl<'a> Comparison<'a> {
    fn schemas(&mut self, from: &'a Value, to: &'a Value, at: &str) -> Vec<String> {
        let pair: (*const Value, *const Value) = (from, to);
        if !self.under_way.insert(pair) {
            return Vec::new();
        }
        let (accepted, accepting) = (branches(self.from, from), branches(self.to, to));
        let mut found = Vec::new();
        for branch in &accepted {
            found.extend(self.alternative(branch, &accepting, at));
        }
        // A default is what the caller means who leaves the member out.
        let (was, is) = (from.get("default"), to.get("default"));
        if self.side == Side::Input && was.is_some() && was != is {
            found.push(self.changed(at, "default", was, is));
        }
        found.dedup();
        self.under_way.remove(&pair);
        found
    }

    /// One of the alternatives must accept all that `branch` accepts; else what the nearest one refuses.
    fn alternative(&mut self, branch: &Branch<'a>, accepting: &[Branch<'a>], at: &str) -> Vec<String> {
        let of_its_type: Vec<_> = accepting.iter().filter(|other| other.has_type_of(branch)).collect();
        let mut nearest: Option<Vec<String>> = None;
        for other in &of_its_type {
            let found = self.branch(branch, other, at);
            if found.is_empty() {
                return found;
            }
            if nearest.as_ref().is_none_or(|nearest| found.len() < nearest.len()) {
                nearest = Some(found);
            }
        }
        nearest.filter(|_| branch.value.is_none()).unwrap_or_else(|| vec![self.refused(at, &branch.to_string())])
    }

    fn branch(&mut self, from: &Branch<'a>, to: &Branch<'a>, at: &str) -> Vec<String> {
        if to.value.is_some() {
            return if from.value == to.value { Vec::new() } else { vec![self.one_value_only(at, to)] };
        }
        let mut found = Vec::new();
        for (keyword, was, is) in from.tighter_bounds(to) {
            found.push(self.changed(at, keyword, was.as_ref(), is.as_ref()));
        }
        // Another pattern, format or step may accept as much; nobody can tell.
        for keyword in ["pattern", "format", "multipleOf", "uniqueItems"].iter().chain(&OPAQUE) {
            let (was, is) = (from.get(keyword), to.constraint(keyword));
            if is.is_some() && was != is {
                found.push(self.changed(at, keyword, was, is));
            }
        }
        found.extend(self.items(from, to, at));
        found.extend(self.members(from, to, at));
        found
    }

    fn items(&mut self, from: &Branch<'a>, to: &Branch<'a>, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        let (was, is) = (from.list("prefixItems"), to.list("prefixItems"));
        if is.len() != was.len() && !is.is_empty() {
            found.push(self.changed(at, "prefixItems", from.get("prefixItems"), to.get("prefixItems")));
        }
        for (index, (was, is)) in was.iter().zip(is).enumerate() {
            found.extend(self.schemas(was, is, &format!("{at}/{index}")));
        }
        if let Some(is) = to.get("items") {
            found.extend(self.schemas(from.get("items").unwrap_or(&Value::Bool(true)), is, &format!("{at}/*")));
        }
        found
    }

    fn members(&mut self, from: &Branch<'a>, to: &Branch<'a>, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        let (were, are) = (from.properties(), to.properties());
        let (others_were, others_are) = (from.get("additionalProperties"), to.get("additionalProperties"));
        let required = from.required();
        for name in to.required().difference(&required) {
            found.push(match self.side {
                Side::Input => format!("input {at}/{name}: is now required"),
                Side::Output => format!("output {at}/{name}: is no longer always there"),
            });
        }
        for (name, was) in &were {
            match (are.get(name), others_are) {
                (Some(is), _) => found.extend(self.schemas(was, is, &format!("{at}/{name}"))),
                (None, Some(Value::Bool(false))) => found.push(match self.side {
                    Side::Input => format!("input {at}/{name}: is no longer known"),
                    Side::Output => format!("output {at}/{name}: is new, where no unknown members were to be expected"),
                }),
                (None, Some(is)) => found.extend(self.schemas(was, is, &format!("{at}/{name}"))),
                (None, None) => {}
            }
        }
        if others_were == Some(&Value::Bool(false)) {
            return found;
        }
        let others_were = others_were.unwrap_or(&Value::Bool(true));
        for (name, is) in are.iter().filter(|(name, _)| !were.contains_key(*name)) {
            // A result without the member says nothing wrong; an argument of that name could be anything so far.
            let found_there = self.schemas(others_were, is, &format!("{at}/{name}"));
            if !found_there.is_empty() {
                found.push(match self.side {
                    Side::Input => format!("input {at}/{name}: could be anything and is now described"),
                    Side::Output => format!("output {at}/{name}: is no longer described"),
                });
            }
        }
        match others_are {
            Some(Value::Bool(false)) => found.push(match self.side {
                Side::Input => format!("input {at}: unknown members are now refused"),
                Side::Output => format!("output {at}: may now have unknown members"),
            }),
            Some(is) => found.extend(self.schemas(others_were, is, &format!("{at}/*"))),
            None => {}
        }
        found
    }

    fn refused(&self, at: &str, what: &str) -> String {
        match self.side {
            Side::Input => format!("input {at}: may no longer be {what}"),
            Side::Output => format!("output {at}: may now be {what}"),
        }
    }

    fn one_value_only(&self, at: &str, to: &Branch<'_>) -> String {
        match self.side {
            Side::Input => format!("input {at}: may now only be {to}"),
            Side::Output => format!("output {at}: may now be other than {to}"),
        }
    }

    fn changed(&self, at: &str, keyword: &str, from: Option<&Value>, to: Option<&Value>) -> String {
        let show = |value: Option<&Value>| value.map_or_else(|| "not there".to_owned(), Value::to_string);
        match self.side {
            Side::Input => format!("input {at}: {keyword} was {} and is {}", show(from), show(to)),
            Side::Output => format!("output {at}: {keyword} was {} and is {}", show(to), show(from)),
        }
    }
}
