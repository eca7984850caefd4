//! A schema as the alternatives it accepts, each of one type or one value.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};

/// References followed from one place; more are a circle.
const MAX_LAYERS: usize = 32;

/// One alternative of a schema.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch<'a> {
    /// The schemas that hold together: what refers, and what it refers to.
    layers: Vec<&'a Map<String, Value>>,
    /// None: any.
    kind: Option<&'a str>,
    /// The only value, where it is one of an enumeration.
    pub value: Option<&'a Value>,
    /// The alternatives that must not hold as well.
    pub exclusions: Vec<Exclusion<'a>>,
}

/// One alternative of a `oneOf`.
#[derive(Clone, Debug)]
pub(super) struct Exclusion<'a> {
    pub own: &'a Value,
    pub others: Vec<&'a Value>,
    /// What holds around them.
    within: Branch<'a>,
}

/// Keyword, what it was, what it is.
pub(super) type Bound = (&'static str, Option<Value>, Option<Value>);

/// What is still to be looked at of a schema.
#[derive(Clone)]
enum Part<'a> {
    Whole(&'a Value),
    AnyOf(&'a [Value]),
    OneOf(&'a [Value]),
}

pub(super) fn branches<'a>(root: &'a Value, schema: &'a Value) -> Vec<Branch<'a>> {
    let mut out = Vec::new();
    spread(root, vec![Part::Whole(schema)], Branch::default(), &mut out);
    out
}

impl<'a> Exclusion<'a> {
    /// Another one of the alternatives, as far as it can be told from `own`.
    pub fn branches(&self, root: &'a Value, other: &'a Value) -> Vec<Branch<'a>> {
        let mut out = Vec::new();
        spread(root, vec![Part::Whole(other)], self.within.clone(), &mut out);
        out
    }
}

fn spread<'a>(root: &'a Value, mut parts: Vec<Part<'a>>, mut within: Branch<'a>, out: &mut Vec<Branch<'a>>) {
    match parts.pop() {
        // `true` accepts everything, `false` nothing.
        Some(Part::Whole(Value::Bool(false))) => {}
        Some(Part::Whole(schema)) => {
            if let Some(members) = schema.as_object() {
                if within.layers.len() >= MAX_LAYERS {
                    return;
                }
                within.layers.push(members);
                let list = |keyword: &str| members.get(keyword).and_then(Value::as_array);
                parts.extend(list("oneOf").map(|alternatives| Part::OneOf(alternatives)));
                parts.extend(list("anyOf").map(|alternatives| Part::AnyOf(alternatives)));
                if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                    let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                    parts.push(Part::Whole(target.unwrap_or(&Value::Bool(true))));
                }
            }
            spread(root, parts, within, out);
        }
        Some(Part::AnyOf(alternatives)) => {
            for own in alternatives {
                let parts = parts.iter().cloned().chain([Part::Whole(own)]).collect();
                spread(root, parts, within.clone(), out);
            }
        }
        Some(Part::OneOf(alternatives)) => {
            for (index, own) in alternatives.iter().enumerate() {
                let others = alternatives.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other);
                let mut inner = within.clone();
                inner.exclusions.push(Exclusion { own, others: others.collect(), within: within.clone() });
                spread(root, parts.iter().cloned().chain([Part::Whole(own)]).collect(), inner, out);
            }
        }
        None => out.extend(within.of_one_type()),
    }
}

/// What is of both types.
fn narrower<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    match (one, other) {
        _ if one == other => Some(one),
        ("number", "integer") | ("integer", "number") => Some("integer"),
        _ => None,
    }
}

fn kind_of(value: &Value) -> &'static str {
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

impl<'a> Branch<'a> {
    /// By type or value, as all layers have it.
    fn of_one_type(self) -> Vec<Self> {
        let mut kinds: Option<Vec<&'a str>> = None;
        for own in self.all("type") {
            let own: Vec<_> = match own {
                Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
                own => own.as_str().into_iter().collect(),
            };
            kinds = Some(match kinds {
                None => own,
                Some(kinds) => kinds.iter().flat_map(|kind| own.iter().filter_map(|own| narrower(kind, own))).collect(),
            });
        }
        let mut values: Option<Vec<&'a Value>> = None;
        let lists = self.layers.iter().filter_map(|layer| match (layer.get("enum"), layer.get("const")) {
            (Some(Value::Array(values)), _) => Some(values.as_slice()),
            (_, value) => value.map(std::slice::from_ref),
        });
        for own in lists {
            values = Some(match values {
                None => own.iter().collect(),
                Some(values) => values.into_iter().filter(|value| own.contains(value)).collect(),
            });
        }
        match (values, kinds) {
            (Some(values), kinds) => values
                .into_iter()
                .filter(|value| {
                    kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| narrower(kind, kind_of(value)).is_some()))
                })
                .map(|value| Self { kind: Some(kind_of(value)), value: Some(value), ..self.clone() })
                .collect(),
            (None, Some(kinds)) => kinds.into_iter().map(|kind| Self { kind: Some(kind), ..self.clone() }).collect(),
            (None, None) => vec![self],
        }
    }

    /// What each layer says under this keyword. All of it holds.
    pub fn all(&self, keyword: &str) -> Vec<&'a Value> {
        self.layers.iter().filter_map(|layer| layer.get(keyword)).collect()
    }

    /// The same without what every value satisfies.
    pub fn constraints(&self, keyword: &str) -> Vec<&'a Value> {
        let is_satisfied = |value: &Value| match keyword {
            "uniqueItems" => value == &Value::Bool(false),
            "format" => value.as_str().is_some_and(|name| range(name).is_some()),
            _ => false,
        };
        self.all(keyword).into_iter().filter(|value| !is_satisfied(value)).collect()
    }

    /// The names of the members that are described.
    pub fn names(&self) -> BTreeSet<&'a str> {
        let layers = self.layers.iter().filter_map(|layer| layer.get("properties")?.as_object());
        layers.flatten().map(|(name, _)| name.as_str()).collect()
    }

    /// What each layer says of a member: under its name, or of all that it does not name.
    pub fn member(&self, name: &str) -> Vec<&'a Value> {
        let named = |layer: &&'a Map<String, Value>| layer.get("properties").and_then(|members| members.get(name));
        self.layers.iter().filter_map(|layer| named(layer).or_else(|| layer.get("additionalProperties"))).collect()
    }

    pub fn required(&self) -> BTreeSet<&'a str> {
        let layers = self.layers.iter().filter_map(|layer| layer.get("required")?.as_array());
        layers.flatten().filter_map(Value::as_str).collect()
    }

    /// Whether a value may be of both, as far as types and enumerations tell.
    pub fn may_be(&self, other: &Self) -> bool {
        match ((self.value, self.kind), (other.value, other.kind)) {
            ((Some(own), _), (Some(other), _)) => own == other,
            ((_, Some(own)), (_, Some(other))) => narrower(own, other).is_some(),
            _ => true,
        }
    }

    /// Whether this accepts values of the other's type at all.
    pub fn has_type_of(&self, other: &Self) -> bool {
        self.kind.is_none() || self.kind == other.kind || (self.kind, other.kind) == (Some("number"), Some("integer"))
    }

    /// The bounds of `to` that refuse something this accepts.
    pub fn tighter_bounds(&self, to: &Self) -> Vec<Bound> {
        let sizes = [("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")];
        let mut found = Vec::new();
        for (least, most) in [("minimum", "maximum")].into_iter().chain(sizes) {
            let ((was_least, was_most), (is_least, is_most)) = (self.bounds(least, most), to.bounds(least, most));
            if is_least.0 > was_least.0 || (is_least.0 == was_least.0 && is_least.1 && !was_least.1) {
                found.push((least, shown(was_least.0), shown(is_least.0)));
            }
            if is_most.0 < was_most.0 || (is_most.0 == was_most.0 && is_most.1 && !was_most.1) {
                found.push((most, shown(was_most.0), shown(is_most.0)));
            }
        }
        found
    }

    /// The least and the most, each with whether itself is excluded.
    fn bounds(&self, least: &str, most: &str) -> ((f64, bool), (f64, bool)) {
        let numbers = |keyword: &str| self.all(keyword).into_iter().filter_map(Value::as_f64);
        let (mut low, mut high) = ((f64::NEG_INFINITY, false), (f64::INFINITY, false));
        // Of all that is said, the strictest holds; of the same number, the one that excludes it.
        let raise = |low: (f64, bool), to: (f64, bool)| if to.0 > low.0 || (to.0 == low.0 && to.1) { to } else { low };
        let lower = |high: (f64, bool), to: (f64, bool)| if to.0 < high.0 || (to.0 == high.0 && to.1) { to } else { high };
        if least == "minimum" {
            for (least, most) in self.all("format").into_iter().filter_map(|format| range(format.as_str()?)) {
                (low, high) = (raise(low, (least, false)), lower(high, (most, false)));
            }
            low = numbers("exclusiveMinimum").fold(low, |low, least| raise(low, (least, true)));
            high = numbers("exclusiveMaximum").fold(high, |high, most| lower(high, (most, true)));
        } else {
            low.0 = 0.0;
        }
        low = numbers(least).fold(low, |low, least| raise(low, (least, false)));
        high = numbers(most).fold(high, |high, most| lower(high, (most, false)));
        match (self.value, least) {
            (Some(Value::Number(value)), "minimum") => pinned(value.as_f64().unwrap_or_default()),
            (Some(Value::String(value)), "minLength") => pinned(size(value.chars().count())),
            (Some(Value::Array(value)), "minItems") => pinned(size(value.len())),
            (Some(Value::Object(value)), "minProperties") => pinned(size(value.len())),
            _ => (low, high),
        }
    }
}

fn pinned(value: f64) -> ((f64, bool), (f64, bool)) {
    ((value, false), (value, false))
}

fn size(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// A bound as it would be written down; none where there is none.
fn shown(bound: f64) -> Option<Value> {
    if !bound.is_finite() {
        return None;
    }
    // Whole numbers without a fraction, as they are in a schema.
    format!("{bound}").parse().ok().map(Value::Number)
}

/// What a format of numbers implies (the names are those of OpenAPI's format registry).
fn range(format: &str) -> Option<(f64, f64)> {
    Some(match format {
        "int8" => (f64::from(i8::MIN), f64::from(i8::MAX)),
        "int16" => (f64::from(i16::MIN), f64::from(i16::MAX)),
        "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
        "int64" | "int" => (-2_f64.powi(63), 2_f64.powi(63)),
        "uint8" => (0.0, f64::from(u8::MAX)),
        "uint16" => (0.0, f64::from(u16::MAX)),
        "uint32" => (0.0, f64::from(u32::MAX)),
        "uint64" | "uint" => (0.0, 2_f64.powi(64)),
        "float" => (f64::from(f32::MIN), f64::from(f32::MAX)),
        "double" => (f64::NEG_INFINITY, f64::INFINITY),
        _ => return None,
    })
}

impl fmt::Display for Branch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.kind) {
            (Some(value), _) => write!(f, "{value}"),
            (None, Some("null")) => f.write_str("null"),
            (None, Some(kind @ ("array" | "object" | "integer"))) => write!(f, "an {kind}"),
            (None, Some(kind)) => write!(f, "a {kind}"),
            (None, None) => f.write_str("anything"),
        }
    }
}
