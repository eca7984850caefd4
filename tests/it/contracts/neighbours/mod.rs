//! Arguments that differ from an example in one place, made from the schema: by so little that they are just wrong, or just right.

mod sample;
mod schema;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use self::sample::{broken_formats, sample};
pub use self::schema::{Alternative, alternatives};

/// Optional members that no example has are tried as well, down to this depth.
const MAX_DEPTH: usize = 8;
/// Larger bodies are refused as such: 413.
const MAX_BODY: usize = 250_000;

#[derive(Clone, Debug)]
pub struct Vector {
    /// The place and what is there, for whoever reads a failure.
    pub what: String,
    /// A JSON pointer into the arguments, to what is wrong; none when nothing is.
    pub spot: Option<String>,
    pub arguments: Value,
}

/// Every neighbour of every example, and the examples themselves.
pub fn vectors(schema: &Value, examples: &[Value]) -> Vec<Vector> {
    let mut out = Vec::new();
    for example in examples {
        out.push(Vector { what: "an example".to_owned(), spot: None, arguments: example.clone() });
        Neighbours { root: schema, base: example.clone(), union: None, out: &mut out }.of(schema, "", 0);
    }
    out
}

/// The neighbours of one set of arguments that are right.
struct Neighbours<'a> {
    root: &'a Value,
    base: Value,
    /// Within alternatives of the same type nobody can tell which was meant: what is wrong is the whole of it.
    union: Option<String>,
    out: &'a mut Vec<Vector>,
}

impl Neighbours<'_> {
    fn of(&mut self, schema: &Value, at: &str, depth: usize) {
        let alternatives = alternatives(self.root, schema);
        if depth > MAX_DEPTH || alternatives.iter().any(|one| one.kind().is_none()) {
            return;
        }
        self.other_types(&alternatives, at);
        let value = self.base.pointer(at).unwrap().clone();
        let Some(meant) = schema::meant(&alternatives, &value) else { return };
        let outside = self.union.clone();
        if schema::are_several(&alternatives, &value) {
            self.union.get_or_insert(at.to_owned());
        }
        match &value {
            Value::Object(members) => self.members(meant, members, at, depth),
            Value::Array(items) => self.items(meant, items, at, depth),
            Value::String(_) => self.text(&alternatives, meant, at),
            Value::Number(_) => self.number(meant, at),
            Value::Null | Value::Bool(_) => {}
        }
        self.union = outside;
    }

    /// Every JSON type that is none of those the place may have.
    fn other_types(&mut self, alternatives: &[Alternative], at: &str) {
        for (kind, value) in [
            ("null", Value::Null),
            ("boolean", json!(true)),
            ("integer", json!(7)),
            ("number", json!(0.5)),
            ("string", json!("text")),
            ("array", json!([])),
            ("object", json!({})),
        ] {
            let accepts = |one: &Alternative| one.kind() == Some(kind) || (one.kind(), kind) == (Some("number"), "integer");
            // The arguments themselves are an object by the request's own rules, which say so in other words.
            if !at.is_empty() && !alternatives.iter().any(accepts) {
                self.wrong(at, &format!("is of type {kind}"), value);
            }
        }
    }

    fn members(&mut self, schema: &Alternative, members: &Map<String, Value>, at: &str, depth: usize) {
        let others = schema.get("additionalProperties");
        for name in schema.required() {
            let mut arguments = self.base.clone();
            arguments.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(name);
            self.push(format!("{at}/{name} is missing"), Some(join(at, name)), arguments);
        }
        if others == Some(&Value::Bool(false)) {
            self.push(format!("{at}/stranger is unknown"), Some(join(at, "stranger")), self.with(at, "stranger", json!(1)));
        }
        self.counts_of_members(schema, members, at);
        for (name, member) in schema.properties() {
            self.member(schema, &member, &name, members.contains_key(&name), at, depth);
        }
        if let Some(others) = others.filter(|others| others.is_object()) {
            let known = schema.properties();
            let there = members.keys().find(|name| !known.contains_key(*name));
            let name = there.cloned().unwrap_or_else(|| "other".to_owned());
            self.member(schema, others, &name, there.is_some(), at, depth);
        }
    }

    /// The neighbours of a member; where it is not there, those of the arguments with it.
    fn member(&mut self, within: &Alternative, schema: &Value, name: &str, is_there: bool, at: &str, depth: usize) {
        let place = join(at, name);
        if is_there {
            return self.of(schema, &place, depth + 1);
        }
        let there = self.base.pointer(at).and_then(Value::as_object);
        if there.is_some_and(|members| within.excludes(members, name)) {
            return;
        }
        let Some(value) = sample(self.root, schema, MAX_DEPTH - depth.min(MAX_DEPTH)) else { return };
        let base = self.with(at, name, value);
        self.push(format!("{place} is there"), None, base.clone());
        self.on(base).of(schema, &place, depth + 1);
    }

    fn counts_of_members(&mut self, schema: &Alternative, members: &Map<String, Value>, at: &str) {
        let others = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
        if let (Some(most), None, Some(member)) =
            (schema.size("maxProperties"), schema.get("propertyNames"), sample(self.root, others, 1))
        {
            let with = |count: usize| {
                let more = (0..count.saturating_sub(members.len())).map(|number| (format!("other{number}"), member.clone()));
                Value::Object(members.clone().into_iter().chain(more).collect())
            };
            self.right(at, &format!("has {most} members"), with(most));
            self.wrong(at, "has one member too many", with(most + 1));
        }
        if schema.size("minProperties").is_some_and(|least| least > 0) && schema.required().is_empty() {
            self.wrong(at, "has no member", json!({}));
        }
    }

    fn items(&mut self, schema: &Alternative, items: &[Value], at: &str, depth: usize) {
        let of_any = Value::Bool(true);
        let item_schema = schema.get("items").unwrap_or(&of_any);
        let Some(item) = items.first().cloned().or_else(|| sample(self.root, item_schema, MAX_DEPTH - depth)) else { return };
        let alike = |count: usize| Value::Array(vec![item.clone(); count]);
        let are_unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        if let Some(most) = schema.size("maxItems") {
            if !are_unique {
                self.right(at, &format!("has {most} items"), alike(most));
            }
            self.wrong(at, "has one item too many", alike(most + 1));
        }
        if let Some(least) = schema.size("minItems").filter(|least| *least > 0) {
            if !are_unique || least == 1 {
                self.right(at, &format!("has {least} items"), alike(least));
            }
            self.wrong(at, "has one item too few", alike(least - 1));
        }
        if are_unique {
            self.wrong(at, "has an item twice", alike(2));
        }
        if schema.size("maxItems") != Some(0) {
            let (base, place) = (self.replaced(at, alike(schema.size("minItems").unwrap_or(0).max(1))), format!("{at}/0"));
            self.on(base).of(item_schema, &place, depth + 1);
        }
    }

    fn text(&mut self, alternatives: &[Alternative], schema: &Alternative, at: &str) {
        if alternatives.iter().all(|one| one.kind() != Some("string") || one.values().is_some()) {
            self.wrong(at, "is none of the values", json!("stranger"));
            return;
        }
        let fits = |text: &str| schema.get("format").is_none() && sample::fits_pattern(schema, text);
        if let Some(most) = schema.size("maxLength") {
            // Characters are counted, not bytes.
            let letter = if most < MAX_BODY / 2 { "ö" } else { "x" };
            if fits(&letter.repeat(most)) {
                self.right(at, &format!("has {most} characters"), json!(letter.repeat(most)));
            }
            self.wrong(at, "is one character too long", json!(letter.repeat(most + 1)));
        }
        if let Some(least) = schema.size("minLength").filter(|least| *least > 0) {
            if fits(&"ö".repeat(least)) {
                self.right(at, &format!("has {least} characters"), json!("ö".repeat(least)));
            }
            self.wrong(at, "is one character too short", json!("ö".repeat(least - 1)));
        }
        for broken in schema.get("format").and_then(Value::as_str).map_or(&[][..], broken_formats) {
            self.wrong(at, &format!("is {broken:?}"), json!(broken));
        }
        for broken in [" ", "\n\u{1}", "!", "a", "Z", "0"].into_iter().filter(|text| !sample::fits_pattern(schema, text)) {
            self.wrong(at, &format!("is {broken:?}, which does not fit the pattern"), json!(broken));
        }
    }

    fn number(&mut self, schema: &Alternative, at: &str) {
        for (keyword, step) in [("minimum", -1), ("maximum", 1)] {
            if let Some(bound) = schema.get(keyword) {
                self.right(at, &format!("is its {keyword}"), bound.clone());
                if let Some(beyond) = schema::stepped(bound, step) {
                    self.wrong(at, &format!("is beyond its {keyword}"), beyond);
                }
            }
        }
        for keyword in ["exclusiveMinimum", "exclusiveMaximum"] {
            if let Some(bound) = schema.get(keyword) {
                self.wrong(at, &format!("is its {keyword}"), bound.clone());
            }
        }
    }

    /// The same of other arguments.
    fn on(&mut self, base: Value) -> Neighbours<'_> {
        Neighbours { root: self.root, base, union: self.union.clone(), out: self.out }
    }

    fn right(&mut self, at: &str, what: &str, value: Value) {
        self.push(format!("{at} {what}"), None, self.replaced(at, value));
    }

    fn wrong(&mut self, at: &str, what: &str, value: Value) {
        self.push(format!("{at} {what}"), Some(at.to_owned()), self.replaced(at, value));
    }

    fn push(&mut self, what: String, spot: Option<String>, arguments: Value) {
        let spot = spot.map(|spot| self.union.clone().unwrap_or(spot));
        if arguments.to_string().len() <= MAX_BODY {
            self.out.push(Vector { what, spot, arguments });
        }
    }

    fn replaced(&self, at: &str, value: Value) -> Value {
        let mut arguments = self.base.clone();
        *arguments.pointer_mut(at).unwrap() = value;
        arguments
    }

    fn with(&self, at: &str, name: &str, value: Value) -> Value {
        let mut arguments = self.base.clone();
        arguments.pointer_mut(at).unwrap()[name] = value;
        arguments
    }
}

/// RFC 6901, section 3.
fn join(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}
