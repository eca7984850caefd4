//! What every contract must be, whoever wrote it.

use std::collections::BTreeSet;

use serde_json::Value;
use toolgate_events::tools::{self, Contract};

use super::neighbours::{Alternative, alternatives};

/// Members whose name says all there is to say.
const SELF_EVIDENT: &[&str] = &[
    "assignee",
    "collection",
    "content",
    "content_type",
    "description",
    "dimensions",
    "document_id",
    "due",
    "id",
    "labels",
    "metadata",
    "status",
    "task_id",
    "title",
];
/// A type that holds itself is followed no further.
const MAX_DEPTH: usize = 12;

/// Visits every place of a schema, each with the schema that stands there and the alternatives it comes to.
fn visit(root: &Value, schema: &Value, at: &str, depth: usize, see: &mut impl FnMut(&str, &Value, &[Alternative])) {
    let alternatives = alternatives(root, schema);
    see(at, schema, &alternatives);
    if depth > MAX_DEPTH {
        return;
    }
    for one in &alternatives {
        for (name, member) in one.properties() {
            visit(root, &member, &format!("{at}/{name}"), depth + 1, see);
        }
        for (keyword, name) in [("additionalProperties", "*"), ("items", "0")] {
            if let Some(nested) = one.get(keyword).filter(|nested| nested.is_object()) {
                visit(root, nested, &format!("{at}/{name}"), depth + 1, see);
            }
        }
    }
}

/// The places of the inputs of all contracts that break a rule, each with its tool.
fn inputs(breaks: impl Fn(&Alternative) -> bool) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for contract in tools::all() {
        let input = &contract.input_schema;
        visit(input, input, "", 0, &mut |at, _, alternatives| {
            if alternatives.iter().any(&breaks) {
                found.insert((contract.name, at.to_owned()));
            }
        });
    }
    found
}

fn assert_none(found: &BTreeSet<(&'static str, String)>, rule: &str) {
    assert!(found.is_empty(), "{rule}: {found:?}");
}

#[test]
fn every_text_is_bounded() {
    let is_unbounded = |one: &Alternative| {
        let is_short = |format: &str| ["uuid", "date-time", "date", "time", "ipv4", "ipv6"].contains(&format);
        let has_form = one.get("format").and_then(Value::as_str).is_some_and(is_short);
        one.kind() == Some("string") && one.values().is_none() && one.size("maxLength").is_none() && !has_form
    };
    assert_none(&inputs(is_unbounded), "give each a maxLength");
}

#[test]
fn every_list_and_every_map_is_bounded() {
    let is_unbounded = |one: &Alternative| match one.kind() {
        Some("array") => one.size("maxItems").is_none(),
        // Free-form JSON is whatever fits into a request.
        Some("object") => one.get("additionalProperties").is_some_and(Value::is_object) && one.size("maxProperties").is_none(),
        _ => false,
    };
    assert_none(&inputs(is_unbounded), "give each a maxItems or maxProperties");
}

/// Serde's number types have bounds that a schema does not say by itself: beyond them the adapter would fail, not the request.
#[test]
fn every_whole_number_is_bounded() {
    let is_unbounded = |one: &Alternative| {
        let has = |bound: &str, exclusive: &str| one.get(bound).or_else(|| one.get(exclusive)).is_some();
        let is_bounded = has("minimum", "exclusiveMinimum") && has("maximum", "exclusiveMaximum");
        one.kind() == Some("integer") && one.values().is_none() && !is_bounded
    };
    assert_none(&inputs(is_unbounded), "give each a minimum and a maximum");
}

#[test]
fn members_that_nobody_knows_are_refused() {
    let is_open = |one: &Alternative| {
        let is_described = !one.properties().is_empty();
        is_described && one.get("additionalProperties").or_else(|| one.get("unevaluatedProperties")) != Some(&Value::Bool(false))
    };
    assert_none(&inputs(is_open), "add deny_unknown_fields");
}

#[test]
fn every_member_is_described() {
    for contract in tools::all() {
        for (side, schema) in [("input", &contract.input_schema), ("output", &contract.output_schema)] {
            visit(schema, schema, "", 0, &mut |at, own, alternatives| {
                let name = at.rsplit('/').next().unwrap();
                let says = |schema: Option<&Value>| schema.and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
                let is_described = says(own.get("description")) || alternatives.iter().any(|one| says(one.get("description")));
                // Items and members of any name are described where the whole is.
                let is_evident = ["*", "0"].contains(&name) || SELF_EVIDENT.contains(&name);
                assert!(is_described || is_evident, "{}: say what {side} {at} is", contract.name);
            });
        }
    }
}

#[test]
fn schemas_say_what_they_are() {
    for contract in tools::all() {
        for schema in [&contract.input_schema, &contract.output_schema] {
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{}", contract.name);
            assert_eq!(schema["type"], "object", "{}: arguments and results are objects", contract.name);
        }
    }
}

#[test]
fn names_are_a_thing_and_a_verb() {
    for Contract { name, permission, description, examples, .. } in tools::all() {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        assert!(matches!(name.split('.').collect::<Vec<_>>()[..], [thing, verb] if is_word(thing) && is_word(verb)), "{name}");
        assert_eq!(permission, &format!("tool.{name}:invoke"));
        assert!(description.ends_with('.'), "{name}: a description is one sentence or more");
        let different: BTreeSet<_> = examples.iter().map(Value::to_string).collect();
        assert_eq!(different.len(), examples.len(), "{name}: an example is there twice");
    }
}
