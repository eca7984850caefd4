use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header, request::Parts};
use toolgate_events::TraceContext;
use tracing::Instrument;
use uuid::Uuid;

use crate::{Problem, Violations, wire};

/// What identifies a request from the outside: its trace and its id.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: String,
    trace_id: String,
    span_id: String,
    flags: String,
}

impl RequestContext {
    /// The W3C trace context that the request's events carry on.
    pub fn trace_context(&self) -> TraceContext {
        TraceContext { traceparent: format!("00-{}-{}-{}", self.trace_id, self.span_id, self.flags) }
    }

    #[expect(clippy::disallowed_methods, reason = "a request's ids begin here; they decide nothing")]
    fn from_request(request: &Request) -> Self {
        let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let parent = text("traceparent").and_then(parse_traceparent);
        let fresh = Uuid::now_v7().simple().to_string();
        let span = Uuid::new_v4().simple().to_string();
        let request_id = text("x-request-id")
            .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()))
            .map_or_else(|| fresh.clone(), str::to_owned);
        let (trace_id, flags) = parent.unwrap_or_else(|| (fresh, "01".to_owned()));
        Self { request_id, trace_id, span_id: span[..16].to_owned(), flags }
    }
}

/// Trace id and flags of a version 00 `traceparent`; anything else is ignored, as the recommendation asks.
fn parse_traceparent(text: &str) -> Option<(String, String)> {
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let [version, trace, parent, flags] = <[&str; 4]>::try_from(text.split('-').collect::<Vec<_>>()).ok()?;
    let nonzero = |part: &str| part.bytes().any(|byte| byte != b'0');
    let valid = version == "00" && hex(trace, 32) && nonzero(trace) && hex(parent, 16) && nonzero(parent) && hex(flags, 2);
    valid.then(|| (trace.to_owned(), flags.to_owned()))
}

/// The outermost layer: gives every request an id and a trace, and finishes every refusal.
pub async fn request_context(State(violations): State<Violations>, mut request: Request, next: Next) -> Response {
    let context = RequestContext::from_request(&request);
    request.extensions_mut().insert(context.clone());
    // What is logged meanwhile is found by the trace id that a problem names.
    let span = tracing::error_span!("request", trace_id = %context.trace_id, request_id = %context.request_id);
    let (parts, body) = request.into_parts();
    let mut response = match wire::check(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).instrument(span).await,
        // Whatever follows on this connection may be part of the same deceit.
        Err(problem) => ([(header::CONNECTION, HeaderValue::from_static("close"))], problem).into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        if let Some((kind, tool)) = problem.violation() {
            violations.count(kind, tool);
        }
        let body = problem.body(Some(&context.trace_id));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = body.into();
    }
    let headers = response.headers_mut();
    for (name, value) in [("x-request-id", &context.request_id), ("traceparent", &context.trace_context().traceparent)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_is_carried_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse_traceparent(good), Some(("4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), "01".to_owned())));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
