use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};

use crate::{Problem, ProblemKind};

/// Says that the client takes what the endpoint produces (RFC 9110, section 12.5.1). As an argument it is a `Result`, opened once it
/// is clear who asks and whether he may.
#[derive(Clone, Copy, Debug)]
pub struct Accepts<M>(PhantomData<M>);

/// A media type that an endpoint produces.
pub trait Media: Send {
    /// Lower-case `type/subtype`.
    const TYPE: &'static str;
}

/// The types that endpoints produce.
pub mod media {
    /// `application/json`
    #[derive(Clone, Copy, Debug)]
    pub struct ApplicationJson;

    /// `application/x-ndjson`
    #[derive(Clone, Copy, Debug)]
    pub struct NdJson;

    /// `text/event-stream`
    #[derive(Clone, Copy, Debug)]
    pub struct EventStream;
}

impl Media for media::ApplicationJson {
    const TYPE: &'static str = "application/json";
}

impl Media for media::NdJson {
    const TYPE: &'static str = "application/x-ndjson";
}

impl Media for media::EventStream {
    const TYPE: &'static str = "text/event-stream";
}

impl<S: Sync, M: Media> FromRequestParts<S> for Accepts<M> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if accepts(&parts.headers, M::TYPE) {
            Ok(Self(PhantomData))
        } else {
            Err(Problem::new(ProblemKind::NotAcceptable, format!("the answer here is {}", M::TYPE)))
        }
    }
}

/// How closely a media range names a type; the closest one counts, whatever the others say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    Any,
    Family,
    Exact,
}

/// Whether the `Accept` fields allow a type; without any, all are allowed. What is no media range allows nothing.
fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or("?"));
    let mut ranges = values.flat_map(|value| value.split(',')).map(str::trim).filter(|range| !range.is_empty()).peekable();
    if ranges.peek().is_none() {
        return true;
    }
    let matching = ranges.filter_map(|range| Some((closeness(range, media)?, !is_excluded(range))));
    // Of several as close as each other, one that allows is enough.
    matching.max().is_some_and(|(_, is_allowed)| is_allowed)
}

fn closeness(range: &str, media: &str) -> Option<Closeness> {
    let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let family = media.split('/').next().unwrap_or_default();
    if range == media {
        Some(Closeness::Exact)
    } else if range.strip_suffix("/*").is_some_and(|named| named == family) {
        Some(Closeness::Family)
    } else {
        (range == "*/*").then_some(Closeness::Any)
    }
}

/// Whether the range's weight is 0; one that cannot be read is none.
fn is_excluded(range: &str) -> bool {
    let parameters = range.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut weights = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")).map(|(_, weight)| weight.trim());
    weights.next().is_some_and(|weight| weight.parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts_json(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        accepts(&headers, "application/json")
    }

    #[test]
    fn what_the_client_takes_is_given() {
        for values in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["APPLICATION/JSON"],
            &["application/json; charset=utf-8"],
            &["text/html, application/json;q=0.1"],
            &["text/html;q=1, */*;q=0.1"],
            &["text/html", "application/json"],
            &["text/html,,application/json"],
            &["*/*;q=0, application/json"],
            &["application/*; q=0, application/json ;q=0.001"],
            &["application/json;q=0, application/json;version=1"],
            &["application/json;q=x"],
        ] {
            assert!(accepts_json(values), "{values:?}");
        }
    }

    #[test]
    fn what_the_client_excludes_is_not() {
        for values in [
            &["text/html"][..],
            &["text/*"],
            &["application/xml, text/html;q=0.5"],
            &["application/json;q=0"],
            &["application/json;Q=0.000, */*"],
            &["application/*;q=0, */*;q=1"],
            &["*/*;q=0"],
            &["application/jsonx"],
            &["applicatio/*"],
            &["application/problem+json"],
            &["json"],
            &["*"],
        ] {
            assert!(!accepts_json(values), "{values:?}");
        }
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_bytes(b"\xff").unwrap())]);
        assert!(!accepts(&headers, "application/json"));
    }
}
