//! From a JSON value to a type, with the place of what is wrong.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;
use serde_path_to_error::Segment;

use super::{fault::Fault, pointer};
use crate::FieldError;

/// Reads `value` as `T`; the pointer of the error is the offending member's, also where that is missing.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(Node(value)).map_err(|error| {
        let mut path: Vec<_> = error.path().iter().filter_map(member).collect();
        if let Fault::Missing(field) | Fault::Repeated(field) = error.inner() {
            path.push((*field).to_owned());
        }
        let detail = error.inner().to_string();
        FieldError { pointer: pointer::bounded(path.iter().map(String::as_str)), detail }
    })
}

fn member(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// [`Value`] as serde_json reads it, with errors for people.
struct Node(Value);

impl<'de> Deserializer<'de> for Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(Fault::Invalid),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Node));
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Value::Object(members) => {
                let mut members = MapDeserializer::new(members.into_iter().map(|(key, value)| (key, Node(value))));
                let value = visitor.visit_map(&mut members)?;
                members.end().map(|()| value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// serde_json would also take null; this API does not.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_object() { self.deserialize_any(visitor) } else { Err(Fault::Expected("an object".to_owned())) }
    }

    /// serde would also take an array, member by member; this API does not.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(text) => {
                let text: serde::de::value::StringDeserializer<Fault> = text.into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            _ => Err(Fault::Expected(format!("one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Fault> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, json};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: String,
        arguments: Map<String, Value>,
        note: Option<String>,
        #[serde(default)]
        options: Options,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        limit: Option<u32>,
        mode: Option<Mode>,
        items: Vec<bool>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Fast,
    }

    fn refusal(value: Value) -> (String, String) {
        let error = read::<Body>(value).unwrap_err();
        (error.pointer, error.detail)
    }

    fn with(member: &str, value: Value) -> Value {
        let mut body = json!({"name": "n", "arguments": {}});
        body[member] = value;
        body
    }

    #[test]
    fn what_fits_is_read_as_serde_json_reads_it() {
        let arguments = json!({"a": [1, -1, 1.5, null, true, {"b": "c"}]});
        let value =
            json!({"name": "n", "arguments": arguments, "note": null, "options": {"limit": 5, "mode": "fast", "items": [true]}});
        assert_eq!(read::<Body>(value.clone()).unwrap(), serde_json::from_value::<Body>(value).unwrap());
    }

    #[test]
    fn a_refusal_says_where_and_what_in_plain_words() {
        let number = "must be a whole number from 0 to 4294967295";
        for (value, pointer, detail) in [
            (json!([]), "", "must be an object"),
            (json!(["n", {}, null, {}]), "", "must be an object"),
            (with("options", json!([5, null, []])), "/options", "must be an object"),
            (json!("secret"), "", "must be an object"),
            (json!({"name": "n"}), "/arguments", "is required"),
            (with("name", json!(null)), "/name", "must be a string"),
            (with("arguments", json!([])), "/arguments", "must be an object"),
            (with("arguments", json!(null)), "/arguments", "must be an object"),
            (with("note", json!(5)), "/note", "must be a string"),
            (with("a/b", json!(5)), "/a~1b", "is not known here"),
            (with("options", json!({"x": 1})), "/options/x", "is not known here"),
            (with("options", json!({"limit": -1})), "/options/limit", number),
            (with("options", json!({"limit": 4_294_967_296_u64})), "/options/limit", number),
            (with("options", json!({"limit": 1.5})), "/options/limit", number),
            (with("options", json!({"mode": "slow"})), "/options/mode", "must be one of fast"),
            (with("options", json!({"mode": 5})), "/options/mode", "must be one of fast"),
            (with("options", json!({"items": {}})), "/options/items", "must be an array"),
            (with("options", json!({"items": [true, 1]})), "/options/items/1", "must be a boolean"),
        ] {
            assert_eq!(refusal(value.clone()), (pointer.to_owned(), detail.to_owned()), "{value}");
        }
    }
}
