use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRef, FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use http::header;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::{strict, value};
use crate::{Guard, Problem, ProblemKind};

/// Of a body that is too large, bytes read and forgotten before the answer, and how long that may take.
const DISCARDED_AT_MOST: usize = 1024 * 1024;
const DISCARDS_WITHIN: Duration = Duration::from_secs(5);

/// A JSON body that means one thing only: no duplicate keys, no `\u0000`, no number that is not exact everywhere, no unknown fields,
/// no foreign content type.
#[derive(Clone, Copy, Debug)]
pub struct StrictJson<T>(pub T);

/// A JSON body as it was sent, for whoever checks a signature over it. Nobody has read it yet.
#[derive(Clone, Debug)]
pub struct JsonBytes(pub Bytes);

impl<S, T> FromRequest<S> for StrictJson<T>
where
    S: Sync,
    Guard: FromRef<S>,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonBytes(body) = JsonBytes::from_request(request, state).await?;
        let document = strict::parse(&body).map_err(|error| Problem::invalid_all(vec![error]))?;
        value::read(document).map(Self).map_err(|error| Problem::invalid_all(vec![error]))
    }
}

impl<S> FromRequest<S> for JsonBytes
where
    S: Sync,
    Guard: FromRef<S>,
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
        read(request.into_body(), limit, body_timeout).await.map(Self)
    }
}

fn check_content_type(request: &Request) -> Result<(), Problem> {
    let unsupported = |detail| Problem::new(ProblemKind::UnsupportedMediaType, detail);
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported("a body is taken as it is, without a Content-Encoding"));
    }
    // Of two, a proxy in front may have read the other one.
    let mut values = request.headers().get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unsupported("send Content-Type: application/json, once"));
    };
    let value = value.to_str().unwrap_or_default();
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
}
