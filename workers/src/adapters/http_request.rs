use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use toolgate_events::tools::{HttpMethod, HttpRequestInput, HttpRequestOutput};
use toolgate_security::EgressRequest;

use super::{Call, ToolError, answer};
use crate::Environment;

const TOOL: &str = "http.request";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Sent again after a crash, the request has the same `Idempotency-Key`; what comes of that is up to whoever receives it.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let mut request = request(call.arguments()?)?;
    let key = HeaderValue::from_str(&call.call_id.to_string()).map_err(|error| ToolError::Internal(error.to_string()))?;
    request.headers.insert(IDEMPOTENCY_KEY, key);
    let response = environment.egress.send(TOOL, request).await?;
    let (body, base64) = text(response.body);
    answer(&HttpRequestOutput {
        status: response.status.as_u16(),
        headers: recorded(&response.headers),
        body,
        base64,
        truncated: response.truncated,
    })
}

fn request(input: HttpRequestInput) -> Result<EgressRequest, ToolError> {
    let invalid = |detail: &str| Err(ToolError::InvalidArguments(detail.to_owned()));
    let mut headers = HeaderMap::new();
    for (name, value) in &input.headers {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
            return invalid("a header's name or value is not what RFC 9110 allows");
        };
        if name == IDEMPOTENCY_KEY || headers.insert(name, value).is_some() {
            return invalid("a header is given twice, or is the Idempotency-Key, which the call's own id is");
        }
    }
    let body = match (input.body, input.json) {
        (Some(_), Some(_)) => return invalid("at most one of body and json"),
        (Some(text), None) => Some(Bytes::from(text)),
        (None, Some(json)) => {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Some(Bytes::from(serde_json::to_vec(&json)?))
        }
        (None, None) => None,
    };
    let method = match input.method {
        HttpMethod::Get | HttpMethod::Head if body.is_some() => return invalid("GET and HEAD have no body"),
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    };
    Ok(EgressRequest { method, url: input.url, headers, body: body.unwrap_or_default() })
}

/// A cookie is a credential of the next request, and the record is kept for ever.
fn recorded(headers: &HeaderMap) -> BTreeMap<String, String> {
    let names = headers.keys().filter(|name| **name != header::SET_COOKIE);
    let joined = |name: &HeaderName| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        (name.as_str().to_owned(), values.collect::<Vec<_>>().join(", "))
    };
    names.map(joined).collect()
}

/// Text as it is when all of it is printable: the database keeps no NUL, and escapes would make the record several times as long.
fn text(body: Vec<u8>) -> (String, bool) {
    let is_text = |text: &str| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    match String::from_utf8(body) {
        Ok(text) if is_text(&text) => (text, false),
        Ok(text) => (STANDARD.encode(text), true),
        Err(error) => (STANDARD.encode(error.as_bytes()), true),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(arguments: Value) -> Result<EgressRequest, String> {
        request(serde_json::from_value(arguments).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_become_a_request() {
        let plain = made(json!({"method": "GET", "url": "https://a/", "headers": {"Accept": "x"}})).unwrap();
        assert_eq!((plain.method, plain.url.as_str(), plain.body.len()), (Method::GET, "https://a/", 0));
        assert_eq!(plain.headers["accept"], "x");
        let json = made(json!({"method": "POST", "url": "https://a/", "json": {"a": [1]}})).unwrap();
        assert_eq!(
            (json.body.as_ref(), &json.headers["content-type"]),
            (br#"{"a":[1]}"#.as_slice(), &"application/json".parse().unwrap())
        );
        let own = json!({"method": "PATCH", "url": "https://a/", "json": [], "headers": {"content-type": "application/x+json"}});
        assert_eq!(made(own).unwrap().headers["content-type"], "application/x+json");
        let text = made(json!({"method": "PUT", "url": "https://a/", "body": "text"})).unwrap();
        assert_eq!((text.body.as_ref(), text.headers.len()), (b"text".as_slice(), 0));
    }

    #[test]
    fn arguments_that_contradict_each_other_are_refused() {
        for wrong in [
            json!({"method": "POST", "url": "u", "body": "", "json": 1}),
            json!({"method": "GET", "url": "u", "body": ""}),
            json!({"method": "HEAD", "url": "u", "json": 1}),
            json!({"method": "GET", "url": "u", "headers": {"x y": ""}}),
            json!({"method": "GET", "url": "u", "headers": {"x": "a\r\nHost: evil"}}),
            json!({"method": "GET", "url": "u", "headers": {"x\n": "a"}}),
            json!({"method": "GET", "url": "u", "headers": {"x": "a", "X": "b"}}),
            json!({"method": "GET", "url": "u", "headers": {"Idempotency-Key": "mine"}}),
        ] {
            assert!(made(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_is_text_or_encoded() {
        assert_eq!(text(b"a\tb\r\n\xc3\xa9".to_vec()), ("a\tb\r\n\u{e9}".to_owned(), false));
        assert_eq!(text(b"a\0".to_vec()), ("YQA=".to_owned(), true));
        assert_eq!(text(b"\x1b[31m".to_vec()), ("G1szMW0=".to_owned(), true));
        assert_eq!(text(vec![0xff, 0xfe]), ("//4=".to_owned(), true));
        assert_eq!(text(vec![]), (String::new(), false));
    }

    #[test]
    fn headers_are_recorded_joined_and_without_cookies() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("vary", "a"), ("vary", "b"), ("set-cookie", "s=1"), ("etag", "e")] {
            headers.append(name, value.parse().unwrap());
        }
        let expected = [("etag", "e"), ("vary", "a, b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(recorded(&headers), BTreeMap::from(expected));
    }
}
