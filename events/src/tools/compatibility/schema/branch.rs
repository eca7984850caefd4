//! A schema as the alternatives it accepts, each of one type or one value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

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
}

/// Keyword, what it was, what it is.
pub(super) type Bound = (&'static str, Option<Value>, Option<Value>);

pub(super) fn branches<'a>(root: &'a Value, schema: &'a Value) -> Vec<Branch<'a>> {
    let mut out = Vec::new();
    spread(root, schema, Branch::default(), &mut out);
    out
}

fn spread<'a>(root: &'a Value, schema: &'a Value, mut within: Branch<'a>, out: &mut Vec<Branch<'a>>) {
    let Some(members) = schema.as_object() else {
        // `true` accepts everything, `false` nothing.
        out.extend((schema != &Value::Bool(false)).then_some(within));
        return;
    };
    within.layers.push(members);
    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer)).unwrap_or(&Value::Bool(true));
        if within.layers.len() < MAX_LAYERS {
            spread(root, target, within, out);
        }
        return;
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(alternatives) = members.get(keyword).and_then(Value::as_array) {
            alternatives.iter().for_each(|alternative| spread(root, alternative, within.clone(), out));
            return;
        }
    }
    let values = members.get("enum").and_then(Value::as_array).map(Vec::as_slice);
    if let Some(values) = values.or_else(|| members.get("const").map(std::slice::from_ref)) {
        out.extend(values.iter().map(|value| Branch { kind: Some(kind_of(value)), value: Some(value), ..within.clone() }));
        return;
    }
    // An alternative may only add to what holds around it.
    match within.get("type") {
        Some(Value::String(kind)) => out.push(Branch { kind: Some(kind), ..within }),
        Some(Value::Array(kinds)) => {
            out.extend(kinds.iter().map(|kind| Branch { kind: kind.as_str(), ..within.clone() }));
        }
        _ => out.push(within),
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
    pub fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.layers.iter().find_map(|layer| layer.get(keyword))
    }

    /// The same without what every value satisfies.
    pub fn constraint(&self, keyword: &str) -> Option<&'a Value> {
        let is_annotation = |value: &Value| keyword == "format" && value.as_str().is_some_and(|name| range(name).is_some());
        self.get(keyword).filter(|value| *value != &Value::Bool(false) && !is_annotation(value))
    }

    pub fn list(&self, keyword: &str) -> &'a [Value] {
        self.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn properties(&self) -> BTreeMap<&'a str, &'a Value> {
        let layers = self.layers.iter().filter_map(|layer| layer.get("properties")?.as_object());
        layers.flatten().map(|(name, schema)| (name.as_str(), schema)).collect()
    }

    pub fn required(&self) -> BTreeSet<&'a str> {
        let layers = self.layers.iter().filter_map(|layer| layer.get("required")?.as_array());
        layers.flatten().filter_map(Value::as_str).collect()
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
        let number = |keyword: &str| self.get(keyword).and_then(Value::as_f64);
        let (mut low, mut high) = ((f64::NEG_INFINITY, false), (f64::INFINITY, false));
        if least == "minimum" {
            if let Some((least, most)) = self.get("format").and_then(|format| range(format.as_str()?)) {
                (low, high) = ((least, false), (most, false));
            }
            // The stricter one holds.
            low = number("exclusiveMinimum").map_or(low, |least| if least >= low.0 { (least, true) } else { low });
            high = number("exclusiveMaximum").map_or(high, |most| if most <= high.0 { (most, true) } else { high });
        } else {
            low.0 = 0.0;
        }
        low = number(least).map_or(low, |least| if least > low.0 { (least, false) } else { low });
        high = number(most).map_or(high, |most| if most < high.0 { (most, false) } else { high });
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
