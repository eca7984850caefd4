use http::{Version, header, request::Parts};

use crate::Problem;

/// Refuses a request of HTTP/1.1 without exactly one `Host`, which the server below lets through: a proxy in front may have believed
/// another one.
///
/// # Errors
/// 400 (RFC 9112, section 3.2).
pub(crate) fn check(parts: &Parts) -> Result<(), Problem> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let has_one = hosts.next().is_some_and(|host| host.to_str().is_ok()) && hosts.next().is_none();
    if has_one || parts.version != Version::HTTP_11 { Ok(()) } else { Err(Problem::invalid("Host", "a request has exactly one")) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_fine(version: Version, hosts: &[&str]) -> bool {
        let mut request = Request::builder().version(version);
        for host in hosts {
            request = request.header(header::HOST, host.as_bytes());
        }
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn a_request_has_one_host() {
        assert!(is_fine(Version::HTTP_11, &["a"]));
        assert!(!is_fine(Version::HTTP_11, &[]));
        assert!(!is_fine(Version::HTTP_11, &["a", "a"]));
        assert!(!is_fine(Version::HTTP_11, &["\u{e9}"]));
        // HTTP/2 names the host elsewhere, HTTP/1.0 nowhere.
        assert!(is_fine(Version::HTTP_2, &[]) && is_fine(Version::HTTP_10, &[]));
    }
}
