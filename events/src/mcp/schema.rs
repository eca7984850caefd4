//! Judges the schemas of strangers. A schema is run on the arguments of every call, so it must end, and soon.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    DefinitionError,
    text::{DESCRIPTIVE, is_plain},
};

/// Objects of a schema at the most, each counted as often as it is reached over references.
const MAX_COST: u64 = 4_096;
/// References and objects within one another at the most.
const MAX_DEPTH: usize = 128;
/// Means of reference that lead elsewhere, or that a reader must know all of the schema for.
const FOREIGN: [&str; 7] =
    ["$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef", "$recursiveAnchor", "$vocabulary"];

pub(super) fn check(schema: &Value) -> Result<(), DefinitionError> {
    if !schema.is_object() {
        return Err(DefinitionError::NotASchema);
    }
    let mut costs = Costs { root: schema, known: HashMap::new(), path: Vec::new() };
    if costs.of(schema)? > MAX_COST { Err(DefinitionError::TooCostly) } else { Ok(()) }
}

/// The schema as a part of another one, at `place`: a JSON pointer that begins with `#`.
pub(super) fn moved(mut schema: Value, place: &str) -> Value {
    if let Value::Object(members) = &mut schema {
        members.remove("$schema");
    }
    if place != "#" {
        move_references(&mut schema, place);
    }
    schema
}

fn move_references(value: &mut Value, place: &str) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => {
                        *reference = format!("{place}{}", reference.trim_start_matches('#'));
                    }
                    member => move_references(member, place),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, place)),
        _ => {}
    }
}

struct Costs<'a> {
    root: &'a Value,
    /// By place in memory, which a value keeps while it is looked at.
    known: HashMap<*const Value, u64>,
    path: Vec<*const Value>,
}

impl<'a> Costs<'a> {
    fn of(&mut self, value: &'a Value) -> Result<u64, DefinitionError> {
        let place = std::ptr::from_ref(value);
        if let Some(cost) = self.known.get(&place) {
            return Ok(*cost);
        }
        if self.path.contains(&place) {
            return Err(DefinitionError::Recursive);
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(DefinitionError::TooCostly);
        }
        self.path.push(place);
        let cost = match value {
            Value::Object(members) => {
                let mut cost = 1_u64;
                for (name, member) in members {
                    if FOREIGN.contains(&name.as_str()) || (name == "$schema" && !std::ptr::eq(value, self.root)) {
                        return Err(DefinitionError::Reference);
                    }
                    let of_member = match member {
                        // It is cleaned before it is shown.
                        Value::String(_) if DESCRIPTIVE.contains(&name.as_str()) => 0,
                        Value::String(reference) if name == "$ref" => self.of(pointer(reference)
                            .and_then(|pointer| self.root.pointer(pointer))
                            .ok_or(DefinitionError::Reference)?)?,
                        member => self.of(member)?,
                    };
                    cost = cost.saturating_add(of_member);
                }
                cost
            }
            Value::Array(items) => {
                let mut cost = 0_u64;
                for item in items {
                    cost = cost.saturating_add(self.of(item)?);
                }
                cost
            }
            // Cleaned it would be another value, and as it is nobody could read it.
            Value::String(text) if !text.chars().all(is_plain) => return Err(DefinitionError::Value),
            _ => 0,
        };
        self.path.pop();
        self.known.insert(place, cost);
        Ok(cost)
    }
}

/// The JSON pointer of a reference. One with percent-encoding would lead whoever decodes it to another place than was judged.
fn pointer(reference: &str) -> Option<&str> {
    reference.strip_prefix('#').filter(|pointer| !pointer.contains('%') && (pointer.is_empty() || pointer.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_stay_within_the_schema() {
        assert_eq!(
            check(
                &json!({"$schema": "http://json-schema.org/draft-07/schema#", "$defs": {"a": {}}, "items": {"$ref": "#/$defs/a"}})
            ),
            Ok(())
        );
        for schema in [
            json!({"$ref": "https://evil.example/schema"}),
            json!({"$ref": "other.json#/a"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#/nowhere"}),
            json!({"$ref": "#anchor"}),
            json!({"$id": "https://evil.example/", "properties": {}}),
            json!({"properties": {"a": {"$dynamicRef": "#a"}}}),
            json!({"properties": {"a": {"$schema": "http://json-schema.org/draft-04/schema#"}}}),
        ] {
            assert_eq!(check(&schema), Err(DefinitionError::Reference), "{schema}");
        }
    }

    #[test]
    fn a_reference_leads_where_it_is_judged_to_lead() {
        // Each has a harmless place of the name as it is spelt, and another of the name that the spelling stands for.
        let decoys = |harmful: serde_json::Map<String, Value>| {
            let mut defs = harmful;
            for decoy in ["%61", "a%7E0", "%2561", "l%30"] {
                defs.insert(decoy.to_owned(), json!({"type": "string"}));
            }
            move |reference: &str| check(&json!({"$defs": defs, "properties": {"x": {"$ref": reference}}}))
        };
        let recursive = json!({"a": {"items": {"$ref": "#/$defs/%61"}}, "a~": {"items": {"$ref": "#/$defs/a%7E0"}}});
        let recursive = decoys(recursive.as_object().unwrap().clone());
        let multiplying = decoys(
            (0..40)
                .map(|level| {
                    let next = json!({"$ref": format!("#/$defs/l%3{}", (level + 1) % 10)});
                    (format!("l{level}"), json!({"allOf": [next, next]}))
                })
                .collect(),
        );
        for reference in
            ["#/$defs/%61", "#/$defs/a%7E0", "#/$defs/%2561", "#%2F$defs%2Fa", "#/%24defs/a", "%23/$defs/a", "#/$defs/l%30"]
        {
            assert_eq!(recursive(reference), Err(DefinitionError::Reference), "{reference}");
            assert_eq!(multiplying(reference), Err(DefinitionError::Reference), "{reference}");
        }
    }

    #[test]
    fn what_refers_to_itself_is_refused() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"properties": {"child": {"$ref": "#"}}}),
            json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
        ] {
            assert_eq!(check(&schema), Err(DefinitionError::Recursive), "{schema}");
        }
    }

    #[test]
    fn references_that_multiply_are_counted() {
        let laughs = |levels: usize| {
            let level = |level: usize| {
                let next = json!({"$ref": format!("#/$defs/l{}", level + 1)});
                (format!("l{level}"), json!({"allOf": [next.clone(), next]}))
            };
            let mut defs: serde_json::Map<_, _> = (0..levels).map(level).collect();
            defs.insert(format!("l{levels}"), json!({"type": "string"}));
            check(&json!({"$defs": defs, "$ref": "#/$defs/l0"}))
        };
        assert_eq!(laughs(6), Ok(()));
        for levels in [12, 60, 200] {
            assert_eq!(laughs(levels), Err(DefinitionError::TooCostly), "{levels}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_seen_is_refused() {
        for hidden in ["send\u{e0041}", "\u{202e}x", "a\u{200b}", "\u{1b}[2J"] {
            for schema in [
                json!({"enum": ["a", hidden]}),
                json!({"const": hidden}),
                json!({"properties": {"a": {"default": {"b": [hidden]}}}}),
                json!({"examples": [{"b": hidden}]}),
                json!({"pattern": hidden}),
            ] {
                assert_eq!(check(&schema), Err(DefinitionError::Value), "{schema}");
            }
            for described in ["title", "description", "$comment"] {
                assert_eq!(check(&json!({"properties": {"a": {described: hidden}}})), Ok(()), "{described}");
            }
        }
        assert_eq!(check(&json!({"default": "Zürich\n", "enum": ["日本"]})), Ok(()));
    }

    #[test]
    fn the_cost_is_bounded_exactly() {
        // The schema itself, and one object for each item.
        let of_cost = |cost: usize| check(&json!({"enum": vec![json!({}); cost - 1]}));
        let most = usize::try_from(MAX_COST).unwrap();
        assert_eq!((of_cost(most - 1), of_cost(most)), (Ok(()), Ok(())));
        assert_eq!(of_cost(most + 1), Err(DefinitionError::TooCostly));
    }

    #[test]
    fn a_schema_moves_with_its_references() {
        let schema = json!({"$schema": "x", "$defs": {"a": {}}, "items": [{"$ref": "#/$defs/a"}]});
        assert_eq!(moved(schema, "#/properties/r"), json!({"$defs": {"a": {}}, "items": [{"$ref": "#/properties/r/$defs/a"}]}));
    }
}
