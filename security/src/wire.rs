use http::{HeaderMap, Version, header, request::Parts};

use crate::Problem;

/// Refuses what HTTP/1.1 forbids and the server below lets through: two readers of such a request may not see the same one.
///
/// # Errors
/// 400 for a request without exactly one `Host` (RFC 9112, section 3.2), and for one with both `Content-Length` and
/// `Transfer-Encoding` (section 6.3).
pub(crate) fn check(parts: &Parts) -> Result<(), Problem> {
    if parts.version != Version::HTTP_11 {
        return Ok(());
    }
    if !has_one_host(&parts.headers) {
        return Err(Problem::invalid("Host", "a request has exactly one"));
    }
    if parts.headers.contains_key(header::CONTENT_LENGTH) && parts.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Problem::invalid("Content-Length", "goes with no Transfer-Encoding"));
    }
    Ok(())
}

fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    hosts.next().is_some_and(|host| host.to_str().is_ok()) && hosts.next().is_none()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_fine(version: Version, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn a_request_has_one_host_and_one_length() {
        let host = ("host", "toolgate");
        assert!(is_fine(Version::HTTP_11, &[host]));
        assert!(is_fine(Version::HTTP_11, &[host, ("content-length", "1")]));
        assert!(is_fine(Version::HTTP_11, &[host, ("transfer-encoding", "chunked")]));
        assert!(!is_fine(Version::HTTP_11, &[]));
        assert!(!is_fine(Version::HTTP_11, &[host, host]));
        assert!(!is_fine(Version::HTTP_11, &[("host", "\u{e9}")]));
        assert!(!is_fine(Version::HTTP_11, &[host, ("content-length", "1"), ("transfer-encoding", "chunked")]));
        // HTTP/2 names the host elsewhere and frames the body itself; HTTP/1.0 had no Host.
        assert!(is_fine(Version::HTTP_2, &[]) && is_fine(Version::HTTP_10, &[]));
    }
}
