//! JSON that means one thing only, read with the place of whatever is wrong with it.

use std::{cell::RefCell, collections::HashSet, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::pointer;
use crate::FieldError;

/// How deep a document may nest.
const MAX_DEPTH: usize = 64;

/// 2^53: up to here every reader of JSON has the same integers (RFC 8259, section 6).
const MAX_EXACT: u64 = 1 << 53;
#[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
const MAX_EXACT_FLOAT: f64 = MAX_EXACT as f64;

/// Reads a document and refuses what serde_json would quietly resolve.
pub(super) fn parse(body: &[u8]) -> Result<Value, FieldError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let path = RefCell::default();
    let strict = Strict { depth: 0, path: &path };
    let value = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let path = path.into_inner();
        let pointer = pointer::bounded(path.iter().rev().map(String::as_str));
        FieldError { pointer, detail: format!("the body is not the JSON this API accepts: {error}") }
    })
}

/// Builds a [`Value`] as serde_json does.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    /// Where reading failed, the innermost member first: filled on the way out.
    path: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn failed_in(self, member: String) {
        self.path.borrow_mut().push(member);
    }
}

fn without_nul<E: serde::de::Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("a string contains \\u0000")) } else { Ok(text) }
}

fn inexact<E: serde::de::Error>() -> E {
    E::custom("a number beyond 2^53 is not exact for every reader; send it as a string")
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_EXACT { Err(inexact()) } else { Ok(Value::Number(value.into())) }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_EXACT { Err(inexact()) } else { Ok(Value::Number(value.into())) }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // What was written may have been rounded down to 2^53 by now.
        if value.abs() >= MAX_EXACT_FLOAT {
            return Err(inexact());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(inexact)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        without_nul(value).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut array = Vec::new();
        loop {
            match items.next_element_seed(seed) {
                Ok(Some(item)) => array.push(item),
                Ok(None) => return Ok(Value::Array(array)),
                Err(error) => {
                    self.failed_in(array.len().to_string());
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut object = Map::new();
        let mut seen = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let key = without_nul(key)?;
            if !seen.insert(key.clone()) {
                self.failed_in(key);
                return Err(A::Error::custom("the key appears twice"));
            }
            match members.next_value_seed(seed) {
                Ok(value) => drop(object.insert(key, value)),
                Err(error) => {
                    self.failed_in(key);
                    return Err(error);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> FieldError {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn plain_json_comes_through_unchanged() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x\n"],"b":{"c":{}}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"\u0061":2}}"#,
            r#""\u0000""#,
            r#"{"\u0000":1}"#,
            r#""\ud800""#,
            "{} {}",
            "\u{feff}{}",
            "[1,]",
            "NaN",
            "",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn integers_are_exact_or_refused() {
        for exact in ["9007199254740991", "9007199254740992", "-9007199254740991", "-9007199254740992", "9007199254740991.0"] {
            assert!(parse(exact.as_bytes()).is_ok(), "{exact}");
        }
        for inexact in [
            "9007199254740993",
            "-9007199254740993",
            "9007199254740993.0",
            "-9.007199254740993e15",
            "9007199254740992.0",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "1e300",
        ] {
            assert!(refusal(inexact).detail.contains("send it as a string"), "{inexact}");
        }
        assert!(parse(b"1e400").is_err());
    }

    #[test]
    fn a_refusal_points_to_the_member() {
        for (text, pointer) in [
            (r#"{"a":{"b":[0,9007199254740993]}}"#, "/a/b/1"),
            (r#"{"a":{"b":1,"b":2}}"#, "/a/b"),
            (r#"{"a/b":{"~":"\u0000"}}"#, "/a~1b/~0"),
            (r#"{"a":{"\u0000":1}}"#, "/a"),
            (r#"{"a":1,}"#, ""),
            ("", ""),
        ] {
            assert_eq!(refusal(text).pointer, pointer, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
    }
}
