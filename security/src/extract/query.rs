use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::{
    Deserializer,
    de::{DeserializeOwned, IntoDeserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};
use serde_path_to_error::Segment;
use url::form_urlencoded;

use super::fault::Fault;
use crate::{FieldError, Problem};

/// Query parameters that mean one thing only: each once, each with a value, in UTF-8; refused with the API's own 400.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Sync + Send,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Self).map_err(|error| Problem::invalid_all(vec![error]))
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, FieldError> {
    let refused = |name: &str, detail: &str| FieldError { pointer: name.to_owned(), detail: detail.to_owned() };
    if !is_utf8(query) {
        return Err(refused("", "the query is not percent-encoded UTF-8"));
    }
    let parameters =
        form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), Parameter(value.into_owned())));
    serde_path_to_error::deserialize(MapDeserializer::new(parameters)).map_err(|error| match error.inner() {
        Fault::Missing(name) | Fault::Repeated(name) => refused(name, &error.inner().to_string()),
        fault => match error.path().iter().next() {
            Some(Segment::Map { key }) => refused(key.get(..MAX_NAME).unwrap_or(key), &fault.to_string()),
            _ => refused("", &fault.to_string()),
        },
    })
}

/// Whether every `%` begins two hexadecimal digits, and all of it decodes to UTF-8.
fn is_utf8(query: &str) -> bool {
    let mut decoded = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            decoded.push(first);
            continue;
        }
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let Some(([high, low], after)) = rest.split_first_chunk().map(|(pair, after)| (pair.map(hex), after)) else {
            return false;
        };
        let (Some(high), Some(low)) = (high, low) else { return false };
        decoded.push(high << 4 | low);
        rest = after;
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// Bytes of a parameter's name that a refusal repeats.
const MAX_NAME: usize = 64;

/// A parameter's text, read as whatever the endpoint asks for.
struct Parameter(String);

impl Parameter {
    /// Hands the text on; what refuses it without a reason of its own expected something.
    fn hand<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let expected = Fault::expected(&visitor);
        visitor.visit_string(self.0).map_err(|fault| if fault == Fault::Invalid { expected } else { fault })
    }
}

macro_rules! numbers {
    ($($deserialize:ident $visit:ident)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.0.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Fault::expected(&visitor)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Parameter {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.hand(visitor)
    }

    numbers! {
        deserialize_bool visit_bool
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
        deserialize_i64 visit_i64
        deserialize_f64 visit_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_empty() { Err(Fault::Expected("left out, or have a value".to_owned())) } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text: serde::de::value::StringDeserializer<Fault> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

impl IntoDeserializer<'_, Fault> for Parameter {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        text: Option<String>,
        limit: Option<u32>,
        after: Option<u64>,
        id: Option<Uuid>,
        from: Option<DateTime<Utc>>,
        status: Option<Status>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Status {
        Running,
    }

    #[test]
    fn every_kind_of_parameter_is_read() {
        let query = "text=a+b%26%C3%A9&limit=5&after=18446744073709551615&id=6f9619ff-8b86-5d01-b42d-00cf4fc964ff\
                     &from=2026-01-01T00:00:00Z&status=running";
        let read: Parameters = read(query).unwrap();
        assert_eq!(read.text.as_deref(), Some("a b&é"));
        assert_eq!((read.limit, read.after, read.status), (Some(5), Some(u64::MAX), Some(Status::Running)));
        assert_eq!(read.id, Some("6f9619ff-8b86-5d01-b42d-00cf4fc964ff".parse().unwrap()));
        assert_eq!(read.from, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(super::read::<Parameters>("").unwrap().text, None);
    }

    #[test]
    fn a_refusal_names_the_parameter_and_what_it_must_be() {
        let long = format!("{}=1", "k".repeat(65));
        for (query, name, detail) in [
            ("limit=x", "limit", "must be a whole number from 0 to 4294967295"),
            ("limit=4294967296", "limit", "must be a whole number from 0 to 4294967295"),
            ("limit=-1", "limit", "must be a whole number from 0 to 4294967295"),
            ("after=1.5", "after", "must be a whole number from 0"),
            ("id=x", "id", "must be a UUID"),
            ("from=yesterday", "from", "must be a date and time (RFC 3339)"),
            ("status=x", "status", "must be one of running"),
            ("limit=1&limit=1", "limit", "appears twice"),
            ("text=", "text", "must be left out, or have a value"),
            ("limit", "limit", "must be left out, or have a value"),
            ("other=1", "other", "is not known here"),
            (&long, &long[..MAX_NAME], "is not known here"),
            ("text=%FF", "", "the query is not percent-encoded UTF-8"),
            ("text=%C3&limit=1", "", "the query is not percent-encoded UTF-8"),
            ("text=%zz", "", "the query is not percent-encoded UTF-8"),
            ("text=%4", "", "the query is not percent-encoded UTF-8"),
        ] {
            let error = read::<Parameters>(query).unwrap_err();
            assert_eq!((error.pointer.as_str(), error.detail.as_str()), (name, detail), "{query}");
        }
    }
}
