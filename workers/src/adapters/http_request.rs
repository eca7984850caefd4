use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde_json::{Map, Value};
use toolgate_events::tools::{HttpMethod, HttpRequestInput, HttpRequestOutput, SideEffects};
use toolgate_security::EgressRequest;

use super::{Call, Particulars, ToolError, answer};
use crate::Environment;

const TOOL: &str = "http.request";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a call's arguments say about it: the safe methods (RFC 9110, section 9.2.1) may be sent again, and a host that is down is no
/// other host's affair.
pub fn particulars(arguments: &Map<String, Value>) -> Particulars {
    let text = |name| arguments.get(name).and_then(Value::as_str);
    let is_safe = matches!(text("method"), Some("GET" | "HEAD"));
    // Credentials before the host are refused later, and are nobody's name.
    let upstream = text("url").and_then(|url| url.parse::<Uri>().ok()).and_then(|url| {
        let host = url.host()?.to_ascii_lowercase();
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
        Some(format!("{host}:{port}"))
    });
    Particulars { upstream, side_effects: is_safe.then_some(SideEffects::ReadOnly) }
}

/// Whether an answer may be given to later calls: a success, whole, that does not ask for the opposite (RFC 9111, section 3).
pub fn is_reusable(result: &Value) -> bool {
    let is_success = result["status"].as_u64().is_some_and(|status| (200..300).contains(&status) && status != 206);
    let control = result["headers"]["cache-control"].as_str().unwrap_or_default().to_ascii_lowercase();
    is_success && result["truncated"] == false && !["no-store", "no-cache"].iter().any(|word| control.contains(word))
}

/// Sent again, the request has the same `Idempotency-Key`; what comes of that is up to whoever receives it.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let mut request = request(call.arguments()?)?;
    let key = HeaderValue::from_str(&call.call_id.to_string()).map_err(|error| ToolError::Internal(error.to_string()))?;
    request.headers.insert(IDEMPOTENCY_KEY, key);
    let response = environment.egress.until(call.deadline).send(TOOL, request).await?;
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
    fn a_call_says_whom_it_asks_and_whether_it_may_ask_again() {
        let of = |method: &str, url: &str| {
            let Value::Object(arguments) = json!({"method": method, "url": url}) else { unreachable!() };
            particulars(&arguments)
        };
        let of_get = of("GET", "HTTPS://API.Example.com/v1?x=1");
        assert_eq!(
            of_get,
            Particulars { upstream: Some("api.example.com:443".to_owned()), side_effects: Some(SideEffects::ReadOnly) }
        );
        assert_eq!(of("HEAD", "http://a/").side_effects, Some(SideEffects::ReadOnly));
        for method in ["POST", "PUT", "PATCH", "DELETE", "get"] {
            assert_eq!(of(method, "http://a/").side_effects, None, "{method}");
        }
        assert_eq!(of("POST", "http://u:p@a:81/x").upstream.as_deref(), Some("a:81"));
        assert_eq!(of("POST", "http://[::1]/").upstream.as_deref(), Some("[::1]:80"));
        assert_eq!(of("POST", "no url at all").upstream, None);
    }

    #[test]
    fn only_whole_successes_that_allow_it_are_reused() {
        let answer = |status: u16, control: &str, truncated: bool| {
            is_reusable(&json!({"status": status, "headers": {"cache-control": control}, "truncated": truncated}))
        };
        for (status, expected) in [(199, false), (200, true), (206, false), (299, true), (300, false), (503, false)] {
            assert_eq!(answer(status, "max-age=5", false), expected, "{status}");
        }
        assert!(!answer(200, "private, No-Store", false) && !answer(200, "no-cache", false) && !answer(200, "", true));
        assert!(is_reusable(&json!({"status": 200, "headers": {}, "truncated": false})));
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
