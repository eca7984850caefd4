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
        let mut found = Vec::from_iter(self.is_excluded(from, to).then(|| self.several(at, from)));
        if to.value.is_some() {
            found.extend((from.value != to.value).then(|| self.one_value_only(at, to)));
            return found;
        }
        for (keyword, was, is) in from.tighter_bounds(to) {
            found.push(self.changed(at, keyword, was.as_ref(), is.as_ref()));
        }
        // Another pattern, format or step may accept as much; nobody can tell.
        for keyword in ["pattern", "format", "multipleOf", "uniqueItems"].iter().chain(&OPAQUE) {
            let were = from.all(keyword);
            for is in to.constraints(keyword) {
                if !were.contains(&is) {
                    found.push(self.changed(at, keyword, were.first().copied(), Some(is)));
                }
            }
        }
        found.extend(self.items(from, to, at));
        found.extend(self.members(from, to, at));
        found
    }

    /// Whether a value of `from` may fit an alternative beside `to`, where only one may, and was not refused for that before.
    fn is_excluded(&self, from: &Branch<'a>, to: &Branch<'a>) -> bool {
        let was_excluded = |own: &Value, other: &Value| {
            from.exclusions
                .iter()
                .any(|was| self.are_same(was.own, own) && was.others.iter().any(|was| self.are_same(was, other)))
        };
        to.exclusions.iter().any(|exclusion| {
            let new = exclusion.others.iter().filter(|other| !was_excluded(exclusion.own, other));
            let mut branches = new.flat_map(|other| exclusion.branches(self.to, other));
            branches.any(|other| from.may_be(&other) && !self.differ_by_tag(from, &other))
        })
    }

    /// Whether one schema of each side says the same, what it refers to included.
    fn are_same(&self, was: &Value, is: &Value) -> bool {
        was == is && (self.from["$defs"] == self.to["$defs"] || !was.to_string().contains("\"$ref\""))
    }

    /// Whether a member that is always there has other values in the one than in the other.
    fn differ_by_tag(&self, from: &Branch<'a>, to: &Branch<'a>) -> bool {
        let values = |root: &'a Value, schemas: Vec<&'a Value>| {
            let valued = |schema: &'a Value| branches(root, schema).iter().map(|one| one.value).collect::<Option<Vec<_>>>();
            schemas.into_iter().find_map(valued)
        };
        from.required().union(&to.required()).any(|name| {
            match (values(self.from, from.member(name)), values(self.to, to.member(name))) {
                (Some(were), Some(are)) => !were.iter().any(|was| are.contains(was)),
                _ => false,
            }
        })
    }

    /// What `is` refuses of what all of `were` accept: no more than of what one of them accepts.
    fn narrowed(&mut self, were: &[&'a Value], is: &'a Value, at: &str) -> Vec<String> {
        let found = were.iter().map(|was| self.schemas(was, is, at)).min_by_key(Vec::len);
        found.unwrap_or_else(|| self.schemas(&Value::Bool(true), is, at))
    }

    fn items(&mut self, from: &Branch<'a>, to: &Branch<'a>, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        let (were, are) = (from.all("prefixItems"), to.all("prefixItems"));
        let items = to.all("items");
        if let ([Value::Array(were)], [Value::Array(are)]) = (&were[..], &are[..])
            && were.len() == are.len()
        {
            for (index, (was, is)) in were.iter().zip(are).enumerate() {
                found.extend(self.schemas(was, is, &format!("{at}/{index}")));
            }
        } else if were != are && !(are.is_empty() && items.is_empty()) {
            // Where they are gone, `items` holds of the first ones too.
            found.push(self.changed(at, "prefixItems", were.first().copied(), are.first().copied()));
        }
        for is in items {
            found.extend(self.narrowed(&from.all("items"), is, &format!("{at}/*")));
        }
        found
    }

    fn members(&mut self, from: &Branch<'a>, to: &Branch<'a>, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        let required = from.required();
        for name in to.required().difference(&required) {
            found.push(match self.side {
                Side::Input => format!("input {at}/{name}: is now required"),
                Side::Output => format!("output {at}/{name}: is no longer always there"),
            });
        }
        let names = from.names();
        for name in names.union(&to.names()) {
            let (was_named, were) = (names.contains(name), from.member(name));
            for is in to.member(name) {
                let narrowed = self.narrowed(&were, is, &format!("{at}/{name}"));
                if narrowed.is_empty() {
                    continue;
                }
                found.extend(match (was_named, is, self.side) {
                    (true, Value::Bool(false), Side::Input) => vec![format!("input {at}/{name}: is no longer known")],
                    (true, Value::Bool(false), Side::Output) => {
                        vec![format!("output {at}/{name}: is new, where no unknown members were to be expected")]
                    }
                    (true, ..) => narrowed,
                    // A result without the member says nothing wrong; an argument of that name could be anything so far.
                    (false, _, Side::Input) => vec![format!("input {at}/{name}: could be anything and is now described")],
                    (false, _, Side::Output) => vec![format!("output {at}/{name}: is no longer described")],
                });
            }
        }
        let others_were = from.all("additionalProperties");
        for is in to.all("additionalProperties") {
            let narrowed = self.narrowed(&others_were, is, &format!("{at}/*"));
            found.extend(match (is, self.side) {
                (Value::Bool(false), _) if narrowed.is_empty() => Vec::new(),
                (Value::Bool(false), Side::Input) => vec![format!("input {at}: unknown members are now refused")],
                (Value::Bool(false), Side::Output) => vec![format!("output {at}: may now have unknown members")],
                _ => narrowed,
            });
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

    fn several(&self, at: &str, from: &Branch<'_>) -> String {
        match self.side {
            Side::Input => format!("input {at}: where it is {from}, it may now fit several alternatives of oneOf and be refused"),
            Side::Output => format!("output {at}: where it is {from}, it may now fit several alternatives of oneOf"),
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
