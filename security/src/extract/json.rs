use std::{collections::HashSet, fmt, time::Duration};

use axum::{
    body::Body,
    extract::{FromRef, FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use http::header;
use http_body_util::BodyExt;
use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::{Guard, Problem, ProblemKind};

/// How deep a document may nest.
const MAX_DEPTH: usize = 64;

/// Of a body that is too large, bytes read and forgotten before the answer, and how long that may take.
const DISCARDED_AT_MOST: usize = 1024 * 1024;
const DISCARDS_WITHIN: Duration = Duration::from_secs(5);

/// A JSON body that means one thing only: no duplicate keys, no `\u0000`, no unknown fields, no foreign content type.
#[derive(Clone, Copy, Debug)]
pub struct StrictJson<T>(pub T);

impl<S, T> FromRequest<S> for StrictJson<T>
where
    S: Sync,
    Guard: FromRef<S>,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_content_type(&request)?;
        let Guard { body_limit: limit, body_timeout, .. } = Guard::from_ref(state);
        let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            // A client that asks first, with Expect: 100-continue, has sent nothing yet.
            if !request.headers().contains_key(header::EXPECT) {
                discard(&mut request.into_body()).await;
            }
            return Err(too_large(limit));
        }
        let body = read(request.into_body(), limit, body_timeout).await?;
        let value = parse(&body)?;
        T::deserialize(value).map(Self).map_err(|error| Problem::invalid("", error.to_string()))
    }
}

fn check_content_type(request: &Request) -> Result<(), Problem> {
    let unsupported = |detail| Problem::new(ProblemKind::UnsupportedMediaType, detail);
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported("compressed bodies are not accepted"));
    }
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    // RFC 8259 knows no charset but UTF-8; a parameter that says so does no harm.
    let is_utf8 = parts.all(|parameter| {
        parameter.split_once('=').is_some_and(|(name, charset)| {
            name.eq_ignore_ascii_case("charset") && charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    });
    if is_json && is_utf8 { Ok(()) } else { Err(unsupported("send Content-Type: application/json")) }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("the body is larger than {limit} bytes"))
}

async fn read(body: Body, limit: usize, within: Duration) -> Result<Bytes, Problem> {
    let late = |_| Problem::invalid("", format!("the body did not arrive within {} ms", within.as_millis()));
    tokio::time::timeout(within, collect(body, limit)).await.map_err(late)?
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::invalid("", "the body ended early"))?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > limit {
                discard(&mut body).await;
                return Err(too_large(limit));
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}

/// Reads on for a while: a connection closed on a client that is still sending is reset, and the answer is lost with it.
pub(crate) async fn discard(body: &mut Body) {
    let reading = async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARDED_AT_MOST {
                break;
            }
        }
    };
    let _too_slow = tokio::time::timeout(DISCARDS_WITHIN, reading).await;
}

fn parse(body: &[u8]) -> Result<Value, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let strict = Strict { depth: 0 };
    let value = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| Problem::invalid("", format!("the body is not the JSON this API accepts: {error}")))
}

/// Builds a [`Value`] as serde_json does, but refuses what serde_json would quietly resolve.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

fn without_nul<E: serde::de::Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("a string contains \\u0000")) } else { Ok(text) }
}

impl<'de> Visitor<'de> for Strict {
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

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
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
        while let Some(item) = items.next_element_seed(seed)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut object = Map::new();
        let mut seen = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let key = without_nul(key)?;
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key {key:?} appears twice")));
            }
            object.insert(key, members.next_value_seed(seed)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_is_not_waited_for_without_end() {
        let stalled = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(stalled, 10, Duration::ZERO).await.unwrap_err().kind(), ProblemKind::Invalid);
        assert_eq!(read(Body::from("{}"), 10, Duration::MAX).await.unwrap(), "{}");
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
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
    }
}
