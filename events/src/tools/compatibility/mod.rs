//! Whether a contract still keeps what it promised to those who were written against it.
//!
//! The rules, and why each is one, are in docs/adr/0007-contract-versions.md.

mod schema;

use serde_json::Value;

use self::schema::Side;

/// Every way in which `new` breaks callers of `old`, as sentences; both are contracts as `schemas/tools/` keeps them.
///
/// What cannot be compared counts as breaking. A member that `old` lacks promised nothing.
pub fn breaking(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (member, why) in [
        ("permission", "tokens that had the old one are refused"),
        ("lane", "a call's place in the log follows from it: a key that was used before would make a second call"),
    ] {
        if !old[member].is_null() && old[member] != new[member] {
            found.push(format!("{member}: was {} and is {}: {why}", old[member], new[member]));
        }
    }
    for (member, is_worse, why) in [
        ("/side_effects", is_stronger as fn(&Value, &Value) -> bool, "callers rely on what a repeated call does"),
        ("/timeout_ms", is_less, "what was done in time is no longer"),
        ("/localized", is_less, "`options.locale` no longer makes a difference"),
        ("/cache/default_freshness_seconds", is_more, "who asks for nothing gets older results"),
    ] {
        let (was, is) = (at(old, member), at(new, member));
        if is_worse(was, is) {
            found.push(format!("{}: was {was} and is {is}: {why}", &member[1..]));
        }
    }
    found.extend(schema::breaking(Side::Input, &old["input_schema"], &new["input_schema"]));
    found.extend(schema::breaking(Side::Output, &old["output_schema"], &new["output_schema"]));
    found
}

fn at<'a>(contract: &'a Value, pointer: &str) -> &'a Value {
    contract.pointer(pointer).unwrap_or(&Value::Null)
}

fn is_stronger(was: &Value, is: &Value) -> bool {
    let strength = |effects: &Value| ["read_only", "idempotent", "effectful"].iter().position(|name| effects == name);
    strength(was).is_some_and(|was| strength(is).is_none_or(|is| is > was))
}

fn is_less(was: &Value, is: &Value) -> bool {
    !was.is_null() && number(is) < number(was)
}

/// Without a cache every result is new, so there 0 is what an absent member means.
fn is_more(was: &Value, is: &Value) -> bool {
    number(is) > number(was)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| f64::from(u8::from(value == &Value::Bool(true))))
}

#[cfg(test)]
mod tests;
