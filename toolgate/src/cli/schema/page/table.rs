//! A JSON Schema as a table that people read: one row a member, what is nested by its path.

use serde_json::{Map, Value};

/// Nested deeper than this, a table helps nobody.
const MAX_DEPTH: usize = 6;

/// Whether the members are sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// The members of an object; what has none is said in a sentence.
pub(super) fn of(schema: &Value, side: Side) -> String {
    let mut rows = Rows { root: schema, out: String::new() };
    rows.members(&resolve(schema, schema), "", 0);
    if rows.out.is_empty() {
        return "None.\n".to_owned();
    }
    let head = match side {
        Side::Input => "| name | type | required | bounds | meaning |\n|---|---|---|---|---|\n",
        Side::Output => "| name | type | always there | bounds | meaning |\n|---|---|---|---|---|\n",
    };
    format!("{head}{}", rows.out)
}

/// Text as a cell holds it.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Rows<'a> {
    root: &'a Value,
    out: String,
}

impl Rows<'_> {
    fn members(&mut self, schema: &Map<String, Value>, at: &str, depth: usize) {
        let required: Vec<_> = list(schema, "required").iter().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        // What must be there comes first; the rest by name, as the schema has it.
        let (first, rest): (Vec<_>, Vec<_>) = properties.partition(|(name, _)| required.contains(&name.as_str()));
        for (name, member) in first.into_iter().chain(rest) {
            self.row(member, &join(at, name), required.contains(&name.as_str()), depth);
        }
        // Members of any name, where more is known of them than that they are there.
        if let Some(any) = schema.get("additionalProperties").filter(|any| any.as_object().is_some_and(|any| !any.is_empty())) {
            self.row(any, &join(at, "*"), false, depth);
        }
    }

    fn row(&mut self, member: &Value, at: &str, required: bool, depth: usize) {
        let schema = resolve(self.root, member);
        let alternatives: Vec<_> = alternatives(self.root, &schema);
        let is_nullable = alternatives.iter().any(|one| one.get("type") == Some(&"null".into()));
        let others: Vec<_> = alternatives.into_iter().filter(|one| one.get("type") != Some(&"null".into())).collect();
        let mut kinds: Vec<_> = others.iter().map(|one| kind(self.root, one)).collect();
        kinds.dedup();
        if is_nullable {
            kinds.push("null".to_owned());
        }
        let mut bounds: Vec<_> = others.iter().flat_map(bounds).collect();
        bounds.dedup();
        if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
            bounds.push(format!("default `{default}`"));
        }
        let meaning = schema.get("description").or_else(|| others.iter().find_map(|one| one.get("description")));
        let required = if required { "yes" } else { "no" };
        let meaning = cell(meaning.and_then(Value::as_str).unwrap_or_default());
        self.out.push_str(&format!("| `{at}` | {} | {required} | {} | {meaning} |\n", kinds.join(" or "), bounds.join(", ")));
        if depth < MAX_DEPTH {
            for one in &others {
                self.nested(one, at, depth + 1);
            }
        }
    }

    fn nested(&mut self, schema: &Map<String, Value>, at: &str, depth: usize) {
        self.members(schema, at, depth);
        let Some(items) = schema.get("items") else { return };
        let at = format!("{at}[]");
        for item in alternatives(self.root, &resolve(self.root, items)) {
            // A list of plain values is said in its own row.
            if item.contains_key("properties") || item.contains_key("items") {
                self.nested(&item, &at, depth + 1);
            }
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn list<'a>(schema: &'a Map<String, Value>, keyword: &str) -> &'a [Value] {
    schema.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A schema with what it refers to in its place; its own words win.
fn resolve(root: &Value, schema: &Value) -> Map<String, Value> {
    let own = schema.as_object().cloned().unwrap_or_default();
    let target = own.get("$ref").and_then(Value::as_str).and_then(|to| root.pointer(to.strip_prefix('#')?));
    let mut resolved = match target {
        Some(target) if target != schema => resolve(root, target),
        _ => Map::new(),
    };
    resolved.extend(own.into_iter().filter(|(keyword, _)| keyword != "$ref"));
    resolved
}

/// Each of the schemas that a value may satisfy, of one type.
fn alternatives(root: &Value, schema: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let nested = [list(schema, "anyOf"), list(schema, "oneOf")].concat();
    if !nested.is_empty() {
        return nested.iter().flat_map(|one| alternatives(root, &resolve(root, one))).collect();
    }
    let kinds = list(schema, "type");
    if kinds.is_empty() {
        return vec![schema.clone()];
    }
    let of_kind = |kind: &Value| {
        let mut one = schema.clone();
        one.insert("type".to_owned(), kind.clone());
        one
    };
    kinds.iter().map(of_kind).collect()
}

fn kind(root: &Value, schema: &Map<String, Value>) -> String {
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    let values = list(schema, "enum");
    if !values.is_empty() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ");
    }
    match (schema.get("type").and_then(Value::as_str), schema.get("format").and_then(Value::as_str)) {
        (Some("string"), Some(format)) => format!("string ({format})"),
        (Some("array"), _) => {
            let items = schema.get("items").map(|items| alternatives(root, &resolve(root, items))).unwrap_or_default();
            let mut kinds: Vec<_> = items.iter().map(|item| kind(root, item)).collect();
            kinds.dedup();
            if kinds.is_empty() { "array".to_owned() } else { format!("array of {}", kinds.join(" or ")) }
        }
        (Some(kind), _) => kind.to_owned(),
        (None, _) if schema.contains_key("properties") => "object".to_owned(),
        (None, _) => "any JSON".to_owned(),
    }
}

/// Formats of numbers bound them as well, but say nothing that a reader wants to know.
fn bounds(schema: &Map<String, Value>) -> Vec<String> {
    let range = |least: &str, most: &str, unit: &str| match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) if least == most => Some(format!("{least}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    let mut found: Vec<_> = [
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " items"),
        range("minProperties", "maxProperties", " members"),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.extend(schema.get("exclusiveMinimum").map(|bound| format!("more than {bound}")));
    found.extend(schema.get("exclusiveMaximum").map(|bound| format!("less than {bound}")));
    found.extend(schema.get("pattern").and_then(Value::as_str).map(|pattern| format!("pattern `{}`", cell(pattern))));
    // What holds for each item of a plain list.
    let items = schema.get("items").and_then(Value::as_object);
    found.extend(items.iter().flat_map(|items| bounds(items)).map(|bound| format!("each {bound}")));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_members_are_rows_with_their_path() {
        let schema = json!({
            "type": "object",
            "required": ["kind", "items"],
            "properties": {
                "note": {"type": ["string", "null"], "maxLength": 5, "description": "A | B\nand more."},
                "kind": {"$ref": "#/$defs/Kind"},
                "items": {"type": "array", "maxItems": 9, "items": {"$ref": "#/$defs/Item"}},
                "labels": {"type": "array", "items": {"type": "string", "minLength": 1}},
                "where": {"anyOf": [{"$ref": "#/$defs/Item"}, {"type": "null"}], "default": null},
                "count": {"type": "integer", "minimum": 1, "default": 10},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                "any": {"description": "Whatever."},
            },
            "$defs": {
                "Kind": {"description": "Which.", "enum": ["a", "b"]},
                "Item": {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}, "required": ["id"]},
            },
        });
        let rows = [
            "| `items` | array of object | yes | at most 9 items |  |",
            "| `items[].id` | string (uuid) | yes |  |  |",
            r#"| `kind` | `"a"` or `"b"` | yes |  | Which. |"#,
            "| `any` | any JSON | no |  | Whatever. |",
            "| `count` | integer | no | at least 1, default `10` |  |",
            "| `headers` | object | no |  |  |",
            "| `headers.*` | string | no |  |  |",
            "| `labels` | array of string | no | each at least 1 characters |  |",
            r"| `note` | string or null | no | at most 5 characters | A \| B and more. |",
            "| `where` | object or null | no |  |  |",
            "| `where.id` | string (uuid) | yes |  |  |",
        ];
        let table = of(&schema, Side::Input);
        assert_eq!(table.lines().skip(2).collect::<Vec<_>>(), rows);
        assert!(of(&schema, Side::Output).contains("| name | type | always there |"));
        assert_eq!(of(&json!({"type": "object"}), Side::Input), "None.\n");
    }

    #[test]
    fn a_type_that_holds_itself_ends() {
        let schema = json!({
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
        });
        assert_eq!(of(&schema, Side::Output).lines().count(), 2 + 4);
    }
}
