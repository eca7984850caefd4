use std::collections::BTreeSet;

use super::*;

fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["id", "kind"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "kind": {"$ref": "#/$defs/Kind"},
            "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
            "labels": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string", "minLength": 2, "maxLength": 3}},
            "part": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]},
            "free": {"type": "object", "additionalProperties": true},
            "any": {},
            "name": {"type": "string", "maxLength": 4, "pattern": "^[a-z]+$"},
        },
        "$defs": {
            "Kind": {"type": "string", "enum": ["a", "b"]},
            "Part": {
                "oneOf": [
                    {"type": "object", "required": ["tag", "x"], "additionalProperties": false, "properties": {"tag": {"const": "x"}, "x": {"type": "boolean"}}},
                    {"type": "object", "required": ["tag"], "additionalProperties": false, "properties": {"tag": {"const": "y"}}},
                ],
            },
        },
    })
}

#[test]
fn every_rule_has_its_neighbours_also_where_no_example_goes() {
    let example = json!({"id": "0198a0a0-0000-7000-8000-000000000000", "kind": "a"});
    let all = vectors(&schema(), &[example]);
    let names: BTreeSet<_> = all.iter().map(|vector| vector.what.as_str()).collect();
    assert_eq!(names.len(), all.len(), "something is tried twice");
    for (what, spot) in [
        ("/id is missing", Some("/id")),
        ("/stranger is unknown", Some("/stranger")),
        ("/id is of type null", Some("/id")),
        ("/id is \"0198a0a0-0000-7000-8000-00000000000g\"", Some("/id")),
        ("/kind is none of the values", Some("/kind")),
        ("/count is there", None),
        ("/count is its minimum", None),
        ("/count is beyond its minimum", Some("/count")),
        ("/count is of type number", Some("/count")),
        ("/labels has 2 items", None),
        ("/labels has one item too many", Some("/labels")),
        ("/labels has one item too few", Some("/labels")),
        ("/labels/0 has 3 characters", None),
        ("/labels/0 is one character too long", Some("/labels/0")),
        ("/labels/0 is one character too short", Some("/labels/0")),
        ("/part/x is missing", Some("/part")),
        ("/part/stranger is unknown", Some("/part")),
        ("/part/x is of type string", Some("/part")),
        ("/part is of type array", Some("/part")),
        ("/name is \"Z\", which does not fit the pattern", Some("/name")),
        ("/name is one character too long", Some("/name")),
        ("/free is of type array", Some("/free")),
    ] {
        let vector = all.iter().find(|vector| vector.what == what).unwrap_or_else(|| panic!("{what} is not in {names:#?}"));
        assert_eq!(vector.spot.as_deref(), spot, "{what}");
    }
    assert!(!names.contains("/count is of type null") && !names.iter().any(|name| name.starts_with("/any is of")));
}

#[test]
fn neighbours_are_the_same_every_time() {
    let example = json!({"id": "0198a0a0-0000-7000-8000-000000000000", "kind": "a"});
    let spell = || format!("{:?}", vectors(&schema(), std::slice::from_ref(&example)));
    assert_eq!(spell(), spell());
}
