//! A JSON Schema as the alternatives that a value may be, references followed.

use serde_json::{Map, Value};

/// A schema of one type, or of a few values.
#[derive(Clone, Debug)]
pub struct Alternative(Map<String, Value>);

impl Alternative {
    pub fn get(&self, keyword: &str) -> Option<&Value> {
        self.0.get(keyword)
    }

    pub fn size(&self, keyword: &str) -> Option<usize> {
        self.get(keyword)?.as_u64().map(|size| usize::try_from(size).unwrap())
    }

    /// None: any.
    pub fn kind(&self) -> Option<&str> {
        match self.get("type").and_then(Value::as_str) {
            None => self.values()?.first().map(kind_of),
            kind => kind,
        }
    }

    pub fn values(&self) -> Option<&[Value]> {
        let values = self.get("enum").and_then(Value::as_array).map(Vec::as_slice);
        values.or_else(|| self.get("const").map(std::slice::from_ref))
    }

    pub fn properties(&self) -> Map<String, Value> {
        self.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    pub fn required(&self) -> Vec<&str> {
        self.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether a member may not come to those that are there: it needs another one, or is told apart from them by being there.
    pub fn excludes(&self, members: &Map<String, Value>, name: &str) -> bool {
        let is_there = |member: &Value| member.as_str().is_some_and(|member| member == name || members.contains_key(member));
        let needs = self.get("dependentRequired").and_then(|needs| needs.get(name)?.as_array());
        let one_of = self.get("oneOf").and_then(Value::as_array).filter(|nested| only_require(nested)).into_iter().flatten();
        let satisfied = one_of.filter(|one| one["required"].as_array().is_some_and(|names| names.iter().all(is_there)));
        needs.is_some_and(|needs| !needs.iter().all(is_there)) || satisfied.count() > 1
    }

    fn accepts_type_of(&self, value: &Value) -> bool {
        self.kind() == Some(kind_of(value)) || (self.kind(), kind_of(value)) == (Some("number"), "integer")
    }

    /// Whether `value` is of this type and has the values that tell this alternative from others.
    fn is_meant_by(&self, value: &Value) -> bool {
        let has_tags = |members: &Map<String, Value>| {
            self.properties().iter().all(|(name, member)| match (member.get("const"), members.get(name)) {
                (Some(tag), Some(value)) => tag == value,
                _ => true,
            })
        };
        let is_one = self.values().is_none_or(|values| values.contains(value));
        self.accepts_type_of(value) && is_one && value.as_object().is_none_or(has_tags)
    }
}

pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The only alternative that a value can be meant for; none where several could be.
pub fn meant<'a>(alternatives: &'a [Alternative], value: &Value) -> Option<&'a Alternative> {
    let mut fitting = alternatives.iter().filter(|one| one.is_meant_by(value));
    fitting.next().filter(|_| fitting.next().is_none())
}

/// Whether more than one alternative has the type of a value, without being a mere value.
pub fn are_several(alternatives: &[Alternative], value: &Value) -> bool {
    alternatives.iter().filter(|one| one.values().is_none() && one.accepts_type_of(value)).count() > 1
}

pub fn alternatives(root: &Value, schema: &Value) -> Vec<Alternative> {
    let Some(schema) = schema.as_object() else {
        return if schema == &Value::Bool(false) { Vec::new() } else { vec![Alternative(Map::new())] };
    };
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(target.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{target} leads nowhere"));
        return alternatives(root, target).into_iter().map(|one| Alternative(merged(schema, one.0, "$ref"))).collect();
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(nested) = schema.get(keyword).and_then(Value::as_array).filter(|nested| !only_require(nested)) {
            let nested = nested.iter().flat_map(|one| alternatives(root, one));
            return nested.map(|one| Alternative(merged(schema, one.0, keyword))).collect();
        }
    }
    let Some(kinds) = schema.get("type").and_then(Value::as_array) else { return vec![Alternative(schema.clone())] };
    let of_kind = |kind: &Value| {
        Alternative([schema.clone(), Map::from_iter([("type".to_owned(), kind.clone())])].into_iter().flatten().collect())
    };
    kinds.iter().map(of_kind).collect()
}

/// Alternatives that say which members must be there, and nothing of what the value is.
fn only_require(alternatives: &[Value]) -> bool {
    alternatives.iter().all(|one| one.as_object().is_some_and(|one| one.keys().all(|keyword| keyword == "required")))
}

/// `inner` with what holds around it; what both have of properties and required members holds together.
fn merged(outer: &Map<String, Value>, mut inner: Map<String, Value>, without: &str) -> Map<String, Value> {
    for (keyword, value) in outer.iter().filter(|(keyword, _)| *keyword != without) {
        match (inner.get_mut(keyword), value) {
            (Some(Value::Object(members)), Value::Object(more)) if keyword == "properties" => members.extend(more.clone()),
            (Some(Value::Array(names)), Value::Array(more)) if keyword == "required" => names.extend(more.clone()),
            (Some(_), _) => {}
            (None, value) => drop(inner.insert(keyword.clone(), value.clone())),
        }
    }
    inner
}

/// The whole number or fraction one step beyond; none beyond what JSON numbers hold exactly (2^53).
pub fn stepped(bound: &Value, step: i64) -> Option<Value> {
    match bound.as_i64() {
        Some(bound) => bound.checked_add(step).filter(|beyond| beyond.unsigned_abs() < 1 << 53).map(Value::from),
        None => {
            bound.as_f64().filter(|bound| bound.abs() < 1e15).map(|bound| Value::from(bound + if step < 0 { -1.0 } else { 1.0 }))
        }
    }
}
