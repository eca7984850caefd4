use axum::{
    body::Body,
    extract,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio_util::io::ReaderStream;
use toolgate_events::TenantId;
use toolgate_security::{Authenticated, PathId, Problem, ProblemDocument, ProblemKind, Query};

use super::{
    page::MinPosition,
    range::{self, Part},
    refusals::RefusalsOfAny,
};
use crate::{
    Error, State,
    catch_up::Positioned,
    queries::documents::{self, DocumentRow},
};

/// Tenant-made HTML must not run as our origin.
const SANDBOX: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'";
const CACHED: HeaderValue = HeaderValue::from_static("private, no-cache");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// An artifact's bytes
#[utoipa::path(
    get,
    path = "/v1/artifacts/{artifact_id}",
    tag = "read-models",
    params(
        ("artifact_id" = Uuid, Path),
        MinPosition,
        ("Range" = Option<String>, Header, description = "One range of bytes (RFC 9110, section 14); several, or what is none, get the whole"),
        ("If-Range" = Option<String>, Header, description = "The ETag that the range belongs to; under another one, the whole is sent"),
        ("If-None-Match" = Option<String>, Header, description = "The ETags already there"),
    ),
    responses(
        (status = 200, description = "The bytes, in the type the document says", content_type = "application/octet-stream", body = Vec<u8>,
            headers(
                ("Accept-Ranges" = String, description = "`bytes`"),
                ("ETag" = String, description = "The SHA-256 of the whole"),
                ("Content-Digest" = String, description = "Of the body (RFC 9530)"),
                ("Repr-Digest" = String, description = "Of the whole (RFC 9530)"),
            )),
        (status = 206, description = "The bytes of the range", content_type = "application/octet-stream", body = Vec<u8>,
            headers(
                ("Content-Range" = String, description = "`bytes first-last/size`"),
                ("ETag" = String, description = "The SHA-256 of the whole"),
                ("Repr-Digest" = String, description = "Of the whole (RFC 9530)"),
            )),
        (status = 304, description = "The ETag in If-None-Match still holds"),
        (status = 416, description = "The artifact ends before the range begins", content_type = "application/problem+json",
            body = inline(ProblemDocument<'_>), headers(("Content-Range" = String, description = "`bytes */size`"))),
        RefusalsOfAny
    ),
    security(("bearer" = []))
)]
pub(crate) async fn get_artifact(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    id: Result<PathId, Problem>,
    parameters: Result<Query<MinPosition>, Problem>,
    method: Method,
    request: HeaderMap,
) -> Result<Response, Problem> {
    state.guard.authorize(&principal, "artifact:read")?;
    let Query(parameters) = parameters?;
    let mut reading = state.read(principal.tenant_id, parameters.min_position).await?;
    let document = documents::find(&mut reading, id?.0).await?.ok_or(Error::NotFound)?;
    let Positioned { answer: document, position } = reading.end(document).await?;
    let answer = answer(&state, principal.tenant_id, &document, &method, &request).await?;
    Ok(Positioned { answer, position }.into_response())
}

/// The artifact itself, or the part of it that was asked for.
async fn answer(
    state: &State,
    tenant: TenantId,
    document: &DocumentRow,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, Error> {
    let etag = format!("\"{}\"", document.sha256);
    if is_unchanged(request, &etag) {
        // What would have come with 200 and says how to keep it (RFC 9110, section 15.4.5).
        return Ok((StatusCode::NOT_MODIFIED, [(header::CACHE_CONTROL, CACHED)], [(header::ETAG, etag)]).into_response());
    }
    let artifact = document.artifact_id;
    let headers = headers(document, &etag);
    if *method == Method::HEAD {
        // Ranges are for GET alone (RFC 9110, section 14.2).
        return Ok((headers, Body::empty()).into_response());
    }
    match range::asked(request, document.size, &etag) {
        Part::Whole => {
            let bytes = state.artifacts.get(tenant, artifact).await?;
            Ok((headers, Body::from_stream(ReaderStream::new(bytes))).into_response())
        }
        Part::Bytes { first, last } => {
            let length = last - first + 1;
            let bytes = state.artifacts.get_part(tenant, artifact, first, length).await?;
            let headers = headers_of_part(headers, length, &format!("bytes {first}-{last}/{}", document.size));
            Ok((StatusCode::PARTIAL_CONTENT, headers, Body::from_stream(ReaderStream::new(bytes))).into_response())
        }
        Part::Unsatisfiable => Ok(unsatisfiable(document.size)),
    }
}

/// The headers of a whole, for a part of it.
fn headers_of_part(mut headers: HeaderMap, length: u64, range: &str) -> HeaderMap {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // It is over what is sent; of the whole, `Repr-Digest` tells.
    headers.remove(CONTENT_DIGEST);
    if let Ok(range) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    headers
}

fn unsatisfiable(size: u64) -> Response {
    let detail = format!("the artifact has {size} bytes");
    let mut response = Problem::new(ProblemKind::RangeNotSatisfiable, detail).into_response();
    let fields = [(header::ACCEPT_RANGES, "bytes".to_owned()), (header::CONTENT_RANGE, format!("bytes */{size}"))];
    response
        .headers_mut()
        .extend(fields.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))));
    response
}

/// RFC 9110, section 13.1.2.
fn is_unchanged(request: &HeaderMap, etag: &str) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

fn headers(document: &DocumentRow, etag: &str) -> HeaderMap {
    let disposition = format!("inline; filename=\"{}\"", file_name(document));
    let mut headers = HeaderMap::from_iter([
        (header::CONTENT_LENGTH, HeaderValue::from(document.size)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CACHE_CONTROL, CACHED),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX)),
    ]);
    let content_type = HeaderValue::from_str(&document.content_type);
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    let digest = digest(&document.sha256);
    let rest = [
        (header::ETAG, Some(etag.to_owned())),
        (CONTENT_DIGEST, digest.clone()),
        (REPR_DIGEST, digest),
        (header::CONTENT_DISPOSITION, Some(disposition)),
    ];
    for (name, value) in rest {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

/// RFC 9530, section 5.
fn digest(sha256: &str) -> Option<String> {
    let bytes = (0..sha256.len()).step_by(2).map(|index| u8::from_str_radix(sha256.get(index..index + 2)?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Some(format!("sha-256=:{}:", STANDARD.encode(bytes)))
}

/// A name that needs no quoting and means nothing to any shell or file system.
fn file_name(document: &DocumentRow) -> String {
    let mut name: String = document
        .title
        .chars()
        .take(80)
        .map(|character| if character.is_ascii_alphanumeric() || character == '-' { character } else { '_' })
        .collect();
    if !name.contains(|character: char| character.is_ascii_alphanumeric()) {
        name = document.artifact_id.to_string();
    }
    let media = document.content_type.split(';').next().unwrap_or_default().trim();
    name.push_str(match media {
        "text/html" => ".html",
        "application/pdf" => ".pdf",
        _ => ".bin",
    });
    name
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn document(title: &str, content_type: &str) -> DocumentRow {
        DocumentRow {
            artifact_id: Uuid::nil(),
            call_id: Uuid::nil(),
            title: title.to_owned(),
            content_type: content_type.to_owned(),
            size: 5,
            // Of "hello".
            sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            position: 1,
        }
    }

    #[test]
    fn no_title_escapes_the_file_name() {
        assert_eq!(file_name(&document("Q3 report", "text/html; charset=utf-8")), "Q3_report.html");
        assert_eq!(file_name(&document("../a\"\r\nSet-Cookie: x", "application/pdf")), "___a___Set-Cookie__x.pdf");
        assert_eq!(file_name(&document("報告", "text/x")), "00000000-0000-0000-0000-000000000000.bin");
    }

    #[test]
    fn the_digest_is_spelled_as_the_rfc_has_it() {
        let headers = headers(&document("t", "text/html"), "\"e\"");
        assert_eq!(headers["content-digest"], "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:");
        assert_eq!(headers["repr-digest"], headers["content-digest"]);
        let part = headers_of_part(headers.clone(), 2, "bytes 0-1/5");
        assert_eq!(part.get("content-digest"), None, "it would be of the whole");
        assert_eq!((&part["content-length"], &part["content-range"]), (&"2".parse().unwrap(), &"bytes 0-1/5".parse().unwrap()));
        assert_eq!(part["repr-digest"], headers["repr-digest"]);
        assert_eq!(headers["content-length"], "5");
        assert_eq!(headers["content-security-policy"], SANDBOX);
        assert_eq!(digest("xyz"), None);
    }

    #[test]
    fn an_unchanged_artifact_is_not_sent_again() {
        let asks = |value: &'static str| {
            is_unchanged(&HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]), "\"e\"")
        };
        assert!(asks("\"e\"") && asks("\"d\", W/\"e\"") && asks("*"));
        assert!(!asks("\"d\"") && !asks("e"));
    }
}
