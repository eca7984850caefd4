//! A value that a schema accepts, for members that no example has.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::schema::{Alternative, alternatives};

/// The smallest value that is not empty; none where only a person could think of one.
pub fn sample(root: &Value, schema: &Value, depth: usize) -> Option<Value> {
    let alternatives = alternatives(root, schema);
    let one = alternatives.iter().find(|one| one.kind() != Some("null"))?;
    if let Some(values) = one.values() {
        return values.first().cloned();
    }
    if let Some(example) = one.get("examples").and_then(|examples| examples.get(0)) {
        return Some(example.clone());
    }
    match one.kind() {
        None => Some(json!("x")),
        Some("string") => text(one),
        Some("integer" | "number") => Some(number(one)),
        Some("boolean") => Some(json!(true)),
        Some("array") if depth > 0 => {
            let count = one.size("minItems").unwrap_or(0).max(1);
            let items = one.get("items").cloned().unwrap_or(Value::Bool(true));
            (count == 1 || one.get("uniqueItems").is_none()).then_some(())?;
            Some(Value::Array(vec![sample(root, &items, depth - 1)?; count]))
        }
        Some("object") if depth > 0 => {
            let properties = one.properties();
            let mut members = Map::new();
            for name in one.required() {
                members.insert(name.to_owned(), sample(root, properties.get(name)?, depth - 1)?);
            }
            Some(Value::Object(members))
        }
        Some(_) => None,
    }
}

fn text(schema: &Alternative) -> Option<Value> {
    match schema.get("format").and_then(Value::as_str) {
        None => {
            let text = "x".repeat(schema.size("minLength").unwrap_or(0).max(1));
            fits_pattern(schema, &text).then(|| json!(text))
        }
        Some("uuid") => Some(json!("0198a0a0-0000-7000-8000-000000000000")),
        Some("date-time") => Some(json!("2030-01-31T12:00:00Z")),
        Some("date") => Some(json!("2030-01-31")),
        Some("time") => Some(json!("12:00:00Z")),
        Some("uri") => Some(json!("https://example.com/")),
        Some("email") => Some(json!("ada@example.com")),
        Some("hostname") => Some(json!("example.com")),
        Some("ipv4") => Some(json!("192.0.2.1")),
        Some("ipv6") => Some(json!("2001:db8::1")),
        Some(_) => None,
    }
}

/// Patterns are those of ECMA-262; what contracts use of them means the same to this library.
pub fn fits_pattern(schema: &Alternative, text: &str) -> bool {
    schema.get("pattern").is_none_or(|pattern| Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text))
}

fn number(schema: &Alternative) -> Value {
    let bound = |keyword: &str| schema.get(keyword).cloned();
    let beyond = bound("exclusiveMinimum").and_then(|bound| super::schema::stepped(&bound, 1));
    bound("minimum").or(beyond).or_else(|| bound("maximum")).unwrap_or(json!(1))
}

/// Texts that only look like what a format asks for.
pub fn broken_formats(format: &str) -> &'static [&'static str] {
    match format {
        "uuid" => &["", "0198a0a0-0000-7000-8000-00000000000", "0198a0a0-0000-7000-8000-00000000000g"],
        "date-time" => &["", "2030-01-31", "2030-02-30T12:00:00Z", "2030-01-31T12:00:00", "2030-01-31T25:00:00Z", "yesterday"],
        "date" => &["", "2030-02-30", "31.01.2030"],
        "time" => &["", "25:00:00Z"],
        "uri" => &["", "example.com", "https://exa mple.com/"],
        "email" => &["", "ada", "ada@"],
        "hostname" => &["", "-example.com"],
        "ipv4" => &["", "192.0.2.256", "192.0.2"],
        "ipv6" => &["", "2001:db8::g"],
        _ => &[],
    }
}
