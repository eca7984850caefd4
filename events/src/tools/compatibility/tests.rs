use schemars::JsonSchema;
use serde_json::{Map, json};

use super::*;
use crate::tools;

/// The change of one member of a contract, and how many promises it breaks.
fn contract(member: &str, was: Value, is: Value) -> usize {
    let mut old = json!({
        "permission": "tool.a.b:invoke", "lane": "a", "side_effects": "idempotent", "timeout_ms": 10, "localized": true,
        "cache": {"default_freshness_seconds": 5}, "input_schema": {}, "output_schema": {},
    });
    let mut new = old.clone();
    *old.pointer_mut(member).unwrap() = was;
    *new.pointer_mut(member).unwrap() = is;
    breaking(&old, &new).len()
}

#[test]
fn what_a_contract_promises_may_become_better_and_not_worse() {
    for (member, worse, better) in [
        ("/side_effects", json!("idempotent"), json!("read_only")),
        ("/side_effects", json!("effectful"), json!("idempotent")),
        ("/timeout_ms", json!(9), json!(10)),
        ("/localized", json!(false), json!(true)),
        ("/cache/default_freshness_seconds", json!(6), json!(5)),
    ] {
        assert_eq!(contract(member, better.clone(), worse.clone()), 1, "{member}: {better} -> {worse}");
        assert_eq!(contract(member, worse.clone(), better.clone()), 0, "{member}: {worse} -> {better}");
        assert_eq!(contract(member, worse.clone(), worse), 0, "{member}");
    }
    for member in ["/permission", "/lane"] {
        assert_eq!(contract(member, json!("a"), json!("b")), 1, "{member}");
        assert_eq!(contract(member, Value::Null, json!("b")), 0, "{member} promised nothing");
    }
    assert_eq!(contract("/cache", Value::Null, json!({"default_freshness_seconds": 1})), 1);
    assert_eq!(contract("/cache", Value::Null, json!({"default_freshness_seconds": 0})), 0);
}

fn with(side: &str, property: &Value, required: bool) -> Value {
    let required = if required { json!(["p"]) } else { json!([]) };
    let schema = json!({"type": "object", "additionalProperties": false, "properties": {"p": property}, "required": required});
    Value::Object(Map::from_iter([(side.to_owned(), schema)]))
}

/// Every narrowing breaks callers as an input and not as an output; the other way round, results break their readers.
#[test]
fn a_narrower_input_and_a_wider_output_break() {
    let s = |keyword: &str, value: Value| {
        Value::Object(Map::from_iter([("type".to_owned(), json!("string")), (keyword.to_owned(), value)]))
    };
    let n = |keyword: &str, value: Value| {
        Value::Object(Map::from_iter([("type".to_owned(), json!("number")), (keyword.to_owned(), value)]))
    };
    let string = json!({"type": "string"});
    let number = json!({"type": "number"});
    let list = json!({"type": "array", "items": {"type": "string"}});
    let object = |additional: Value| json!({"type": "object", "additionalProperties": additional});
    for (wide, narrow) in [
        (json!({}), string.clone()),
        (json!(true), string.clone()),
        (json!({"type": ["string", "null"]}), string.clone()),
        (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), string.clone()),
        (number.clone(), json!({"type": "integer"})),
        (n("minimum", json!(1)), n("minimum", json!(2))),
        (n("maximum", json!(2)), n("maximum", json!(1))),
        (n("minimum", json!(1)), n("exclusiveMinimum", json!(1))),
        (n("maximum", json!(1)), n("exclusiveMaximum", json!(1))),
        (number.clone(), n("minimum", json!(-5))),
        (number.clone(), n("multipleOf", json!(2))),
        (json!({"type": "integer", "format": "uint32"}), json!({"type": "integer", "format": "uint8"})),
        (s("minLength", json!(1)), s("minLength", json!(2))),
        (s("maxLength", json!(2)), s("maxLength", json!(1))),
        (string.clone(), s("maxLength", json!(1))),
        (string.clone(), s("pattern", json!("^a$"))),
        (string.clone(), s("format", json!("uuid"))),
        (string.clone(), s("enum", json!(["a"]))),
        (s("enum", json!(["a", "b"])), s("enum", json!(["a"]))),
        (json!({"oneOf": [{"const": "a"}, {"const": "b"}]}), s("const", json!("b"))),
        (s("maxLength", json!(2)), s("enum", json!(["a"]))),
        (list.clone(), json!({"type": "array", "items": {"type": "string"}, "maxItems": 3})),
        (list.clone(), json!({"type": "array", "items": {"type": "string"}, "minItems": 1})),
        (list.clone(), json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
        (list.clone(), json!({"type": "array", "items": {"type": "string", "maxLength": 3}})),
        (json!({"type": "array"}), list),
        (object(json!(true)), object(json!(false))),
        (object(json!(true)), object(json!({"type": "string"}))),
        (object(json!({"type": "string"})), object(json!({"type": "string", "maxLength": 1}))),
        (object(json!(true)), json!({"type": "object", "additionalProperties": true, "maxProperties": 5})),
        (object(json!(true)), json!({"type": "object", "properties": {"q": {"type": "string"}}})),
        (
            json!({"type": "object", "properties": {"a": true, "b": true}, "additionalProperties": false}),
            json!({"type": "object", "properties": {"a": true}, "additionalProperties": false}),
        ),
        (json!({"type": "object"}), json!({"type": "object", "required": ["q"]})),
        (json!({"type": "object"}), json!({"type": "object", "propertyNames": {"maxLength": 3}})),
    ] {
        for (side, breaks) in [("input_schema", (&wide, &narrow)), ("output_schema", (&narrow, &wide))] {
            let (old, new) = (with(side, breaks.0, false), with(side, breaks.1, false));
            let found = breaking(&old, &new);
            assert!(!found.is_empty(), "{side}: {} -> {}", breaks.0, breaks.1);
            let side = side.trim_end_matches("_schema");
            assert!(found.iter().all(|found| found.starts_with(&format!("{side} /p"))), "{found:?}");
            assert_eq!(breaking(&new, &old), [""; 0], "{} -> {}", breaks.1, breaks.0);
            assert_eq!(breaking(&old, &old), [""; 0]);
        }
    }
}

#[test]
fn another_pattern_breaks_because_nobody_can_tell() {
    let of = |side, pattern: &str| with(side, &json!({"type": "string", "pattern": pattern}), false);
    for side in ["input_schema", "output_schema"] {
        assert_eq!(breaking(&of(side, "^a*$"), &of(side, "^a$")).len(), 1);
        assert_eq!(breaking(&of(side, "^a$"), &of(side, "^a*$")).len(), 1);
    }
}

#[test]
fn a_member_that_becomes_required_or_optional_breaks_one_side_only() {
    let text = json!({"type": "string"});
    let (optional, required) = (|side| with(side, &text, false), |side| with(side, &text, true));
    assert_eq!(breaking(&optional("input_schema"), &required("input_schema")), ["input /p: is now required"]);
    assert_eq!(breaking(&required("input_schema"), &optional("input_schema")), [""; 0]);
    assert_eq!(breaking(&required("output_schema"), &optional("output_schema")), ["output /p: is no longer always there"]);
    assert_eq!(breaking(&optional("output_schema"), &required("output_schema")), [""; 0]);
}

#[test]
fn members_come_and_go() {
    let of = |side: &str, properties: Value, open: bool| {
        let mut schema = json!({"type": "object", "properties": properties});
        if !open {
            schema["additionalProperties"] = json!(false);
        }
        Value::Object(Map::from_iter([(side.to_owned(), schema)]))
    };
    let (one, two) = (json!({"a": {"type": "string"}}), json!({"a": {"type": "string"}, "b": {"type": "string"}}));
    // A new argument that may be left out, and a new part of a result where there may be more than is described.
    assert_eq!(breaking(&of("input_schema", one.clone(), false), &of("input_schema", two.clone(), false)), [""; 0]);
    assert_eq!(breaking(&of("output_schema", one.clone(), true), &of("output_schema", two.clone(), true)), [""; 0]);
    assert_eq!(
        breaking(&of("input_schema", two.clone(), false), &of("input_schema", one.clone(), false)),
        ["input /b: is no longer known"]
    );
    assert_eq!(breaking(&of("output_schema", two, true), &of("output_schema", one, true)), ["output /b: is no longer described"]);
}

#[test]
fn another_default_means_something_else_to_who_leaves_the_member_out() {
    let of = |default: Value| with("input_schema", &json!({"type": "integer", "default": default}), false);
    assert_eq!(breaking(&of(json!(10)), &of(json!(20))), ["input /p: default was 10 and is 20"]);
    let without = with("input_schema", &json!({"type": "integer"}), false);
    assert_eq!(breaking(&without, &of(json!(20))), [""; 0]);
}

/// A type that holds itself.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Tree {
    name: String,
    children: Vec<Tree>,
}

#[test]
fn a_type_that_holds_itself_is_compared_to_its_end() {
    let old = json!({"output_schema": tools::schema_of::<Tree>()});
    assert_eq!(breaking(&old, &old), [""; 0]);
    let text = old.to_string().replace(r#""type":"string""#, r#""type":["string","null"]"#);
    let new: Value = serde_json::from_str(&text).unwrap();
    let found = breaking(&old, &new);
    assert!(found.contains(&"output /name: may now be null".to_owned()), "{found:?}");
    assert!(found.len() <= 2, "{found:?}");
    assert_eq!(breaking(&new, &old), [""; 0]);
}

#[test]
fn alternatives_told_apart_by_a_tag_are_compared_with_their_own() {
    let of = |most: u32, kinds: &[&str]| {
        let alternative = |kind: &&str| {
            json!({
                "type": "object", "additionalProperties": false, "required": ["kind", "text"],
                "properties": {"kind": {"const": kind}, "text": {"type": "string", "maxLength": most}},
            })
        };
        json!({"input_schema": {"oneOf": kinds.iter().map(alternative).collect::<Vec<_>>()}})
    };
    assert_eq!(breaking(&of(5, &["a", "b"]), &of(5, &["b", "c", "a"])), [""; 0]);
    assert_eq!(breaking(&of(5, &["a"]), &of(4, &["a", "b"])), ["input /text: maxLength was 5 and is 4"]);
    assert!(!breaking(&of(5, &["a", "b"]), &of(5, &["a"])).is_empty());
}

#[test]
fn alternatives_that_only_require_members_are_compared_within_what_holds_around_them() {
    let of = |names: &[&str]| {
        let any: Vec<_> = names.iter().map(|name| json!({"required": [name]})).collect();
        let properties = json!({"a": {"type": "string"}, "b": {"type": "string"}});
        json!({"input_schema": {"type": "object", "additionalProperties": false, "properties": properties, "anyOf": any}})
    };
    assert_eq!(breaking(&of(&["a"]), &of(&["b", "a"])), [""; 0]);
    assert_eq!(breaking(&of(&["a", "b"]), &of(&["a"])), ["input /a: is now required"]);
}

fn input(schema: &Value) -> Value {
    json!({"input_schema": schema})
}

#[test]
fn a_keyword_that_refuses_everything_breaks_when_it_is_new() {
    for keyword in ["unevaluatedProperties", "unevaluatedItems", "propertyNames", "contains", "if"] {
        let new = Value::Object(Map::from_iter([(keyword.to_owned(), json!(false))]));
        assert_eq!(breaking(&input(&json!({})), &input(&new)), [format!("input : {keyword} was not there and is false")]);
    }
    assert_eq!(breaking(&input(&json!({})), &input(&json!({"uniqueItems": false}))), [""; 0]);
}

#[test]
fn alternatives_of_which_only_one_may_hold_refuse_what_fits_several() {
    let of = |keyword: &str, names: &[&str]| {
        let alternatives: Vec<_> = names.iter().map(|name| json!({"required": [name]})).collect();
        let mut schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
        schema[keyword] = alternatives.into();
        schema
    };
    let (any, one, more) = (of("anyOf", &["a", "b"]), of("oneOf", &["a", "b"]), of("oneOf", &["b", "a", "c"]));
    for (old, new) in [(&any, &one), (&any, &more), (&one, &more)] {
        assert!(!breaking(&input(old), &input(new)).is_empty(), "{old} -> {new}");
        let (old, new) = (json!({"output_schema": new}), json!({"output_schema": old}));
        assert!(!breaking(&old, &new).is_empty(), "{old} -> {new}");
    }
    assert_eq!(breaking(&input(&one), &input(&any)), [""; 0]);
    assert_eq!(breaking(&input(&one), &input(&of("oneOf", &["b", "a"]))), [""; 0]);
    // What tells the alternatives apart keeps them from holding together.
    let (any, one) = (json!({"anyOf": [{"const": 1}, {"type": "null"}]}), json!({"oneOf": [{"const": 1}, {"type": "null"}]}));
    assert_eq!(breaking(&input(&any), &input(&one)), [""; 0]);
    // The same reference is not the same alternative when it leads to something else.
    let of = |most: u32| {
        let refer = json!([{"$ref": "#/$defs/A"}, {"type": "string", "minLength": 5}]);
        json!({"oneOf": refer, "$defs": {"A": {"type": "string", "maxLength": most}}})
    };
    assert!(!breaking(&input(&of(4)), &input(&of(5))).is_empty());
}

#[test]
fn what_stands_beside_a_reference_hides_nothing_behind_it() {
    let of = |behind: &Value, beside: &Value| {
        let mut schema = json!({"$ref": "#/$defs/A", "$defs": {"A": behind}});
        schema.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        input(&schema)
    };
    for (behind, tighter, beside) in [
        (json!({"type": "string", "maxLength": 9}), json!({"type": "string", "maxLength": 3}), json!({"maxLength": 5})),
        (json!({"type": "number", "minimum": 1}), json!({"type": "number", "minimum": 6}), json!({"minimum": 5})),
        (json!({"type": "string"}), json!({"type": "string", "pattern": "^b$"}), json!({"pattern": "^a"})),
        (json!({"type": ["string", "null"]}), json!({"type": "string"}), json!({"type": ["string", "null"]})),
        (json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), json!({"enum": ["a", "b"]})),
        (json!({"items": {}}), json!({"items": {"type": "string"}}), json!({"items": {}})),
        (json!({}), json!({"properties": {"a": {"type": "string"}}}), json!({"properties": {"a": {}}})),
        (json!({"properties": {"a": {}}}), json!({"additionalProperties": false}), json!({"properties": {"a": {}}})),
        (json!({}), json!({"additionalProperties": false}), json!({"additionalProperties": {}})),
        (json!({}), json!({"type": "string"}), json!({"anyOf": [{}, {"type": "null"}]})),
    ] {
        let (old, new) = (of(&behind, &beside), of(&tighter, &beside));
        assert!(!breaking(&old, &new).is_empty(), "{old} -> {new}");
        assert_eq!(breaking(&new, &old), [""; 0], "{new} -> {old}");
        assert_eq!(breaking(&new, &new), [""; 0], "{new}");
    }
}

#[test]
fn first_items_that_become_like_the_others_break() {
    let old = json!({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}});
    let new = json!({"type": "array", "items": {"type": "integer"}});
    assert_eq!(breaking(&input(&old), &input(&new)).len(), 1);
    assert_eq!(breaking(&input(&old), &input(&old)), [""; 0]);
    assert_eq!(breaking(&input(&old), &input(&json!({"type": "array"}))), [""; 0]);
}

#[test]
fn every_contract_is_compatible_with_itself() {
    for contract in tools::all() {
        let contract = serde_json::to_value(contract).unwrap();
        assert_eq!(breaking(&contract, &contract), [""; 0]);
    }
}
