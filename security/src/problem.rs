use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::redact_credentials;

/// A refusal as RFC 9457 has it. `detail` is written for the caller and never holds internals.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    errors: Vec<FieldError>,
    tool: Option<&'static str>,
    /// `Retry-After`, in seconds, where the kind has one.
    retry_after: u64,
}

/// One thing wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body, or the parameter's name.
    pub pointer: String,
    pub detail: String,
}

/// The kinds of refusal: each has one status and one stable `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// 400
    Invalid,
    /// 401, no token at all
    Unauthenticated,
    /// 401, a token that does not hold
    InvalidToken,
    /// 401, a message whose signature does not hold
    InvalidSignature,
    /// 403
    Forbidden,
    /// 404, also for what belongs to another tenant
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 409
    Conflict,
    /// 413
    TooLarge,
    /// 415
    UnsupportedMediaType,
    /// 416
    RangeNotSatisfiable,
    /// 422
    IdempotencyMismatch,
    /// 429
    RateLimited,
    /// 500
    Internal,
    /// 503
    Unavailable,
}

impl ProblemKind {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated | Self::InvalidToken | Self::InvalidSignature => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn urn(self) -> &'static str {
        match self {
            Self::Invalid => "urn:toolgate:problem:invalid",
            Self::Unauthenticated => "urn:toolgate:problem:unauthenticated",
            Self::InvalidToken => "urn:toolgate:problem:invalid-token",
            Self::InvalidSignature => "urn:toolgate:problem:invalid-signature",
            Self::Forbidden => "urn:toolgate:problem:forbidden",
            Self::NotFound => "urn:toolgate:problem:not-found",
            Self::MethodNotAllowed => "urn:toolgate:problem:method-not-allowed",
            Self::NotAcceptable => "urn:toolgate:problem:not-acceptable",
            Self::Conflict => "urn:toolgate:problem:conflict",
            Self::TooLarge => "urn:toolgate:problem:too-large",
            Self::UnsupportedMediaType => "urn:toolgate:problem:unsupported-media-type",
            Self::RangeNotSatisfiable => "urn:toolgate:problem:range-not-satisfiable",
            Self::IdempotencyMismatch => "urn:toolgate:problem:idempotency-mismatch",
            Self::RateLimited => "urn:toolgate:problem:rate-limited",
            Self::Internal => "urn:toolgate:problem:internal",
            Self::Unavailable => "urn:toolgate:problem:unavailable",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request is not valid",
            Self::Unauthenticated => "A bearer token is required",
            Self::InvalidToken => "The bearer token was refused",
            Self::InvalidSignature => "The message's signature was refused",
            Self::Forbidden => "The token does not allow this",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::NotAcceptable => "The answer cannot be given in an accepted media type",
            Self::Conflict => "The call's state does not allow this",
            Self::TooLarge => "The request body is too large",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::RangeNotSatisfiable => "The range asked for is not there",
            Self::IdempotencyMismatch => "The idempotency key was used for a different request",
            Self::RateLimited => "Too many requests",
            Self::Internal => "Something went wrong on our side",
            Self::Unavailable => "The service is not available at the moment",
        }
    }

    /// The `kind` label of `violations_total`; none for what is no violation.
    fn violation(self) -> Option<&'static str> {
        match self {
            Self::Invalid | Self::UnsupportedMediaType => Some("invalid"),
            Self::Unauthenticated | Self::InvalidToken | Self::InvalidSignature => Some("unauthenticated"),
            Self::Forbidden => Some("forbidden"),
            Self::TooLarge => Some("too_large"),
            Self::IdempotencyMismatch => Some("idempotency_mismatch"),
            Self::RateLimited => Some("rate_limited"),
            Self::NotFound
            | Self::MethodNotAllowed
            | Self::NotAcceptable
            | Self::Conflict
            | Self::RangeNotSatisfiable
            | Self::Internal
            | Self::Unavailable => None,
        }
    }
}

impl Problem {
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), tool: None, retry_after: 1 }
    }

    /// 400 with one error.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid_all(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// 400 with every error found.
    pub fn invalid_all(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} things are wrong with the request", several.len()),
        };
        Self { errors, ..Self::new(ProblemKind::Invalid, detail) }
    }

    /// 404, worded alike for what never existed and for what is another tenant's.
    pub fn not_found() -> Self {
        Self::new(ProblemKind::NotFound, "no such resource")
    }

    /// 500. The cause belongs in the log of whoever handles it, not in the answer.
    pub fn internal() -> Self {
        Self::new(ProblemKind::Internal, "the request could not be completed; the trace id finds it in our logs")
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, detail)
    }

    /// 429 with `Retry-After` in seconds.
    pub fn rate_limited(detail: impl Into<String>, retry_after: u64) -> Self {
        Self { retry_after, ..Self::new(ProblemKind::RateLimited, detail) }
    }

    /// Names the tool the request was for, as far as it was known.
    #[must_use]
    pub fn for_tool(mut self, tool: &'static str) -> Self {
        self.tool = Some(tool);
        self
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    pub(crate) fn violation(&self) -> Option<(&'static str, Option<&'static str>)> {
        self.kind.violation().map(|kind| (kind, self.tool))
    }

    /// The body, as the outermost layer sends it.
    pub(crate) fn body(&self, trace_id: Option<&str>) -> Vec<u8> {
        // Details may name what the caller sent: a field, a header. Sent by mistake, it may be a token.
        let redacted = |error: &FieldError| FieldError {
            pointer: redact_credentials(&error.pointer).into_owned(),
            detail: redact_credentials(&error.detail).into_owned(),
        };
        let errors: Vec<_> = self.errors.iter().map(redacted).collect();
        let document = ProblemDocument {
            kind: self.kind.urn(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &redact_credentials(&self.detail),
            trace_id,
            errors: &errors,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

/// The wire form of a problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), self.body(None)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.kind {
            ProblemKind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="toolgate""#));
            }
            ProblemKind::InvalidToken => {
                let challenge = HeaderValue::from_static(r#"Bearer realm="toolgate", error="invalid_token""#);
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            // RFC 9110, section 15.5.2, wants a challenge with every 401; of signatures no registered scheme tells.
            ProblemKind::InvalidSignature => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Signature realm="toolgate""#));
            }
            ProblemKind::Unavailable | ProblemKind::RateLimited => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
            }
            _ => {}
        }
        // The outermost layer adds the trace id and counts the violation.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
