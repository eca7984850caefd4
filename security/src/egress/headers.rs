use http::{HeaderMap, HeaderName, header};

use super::Rule;

/// Headers that belong to the connection (RFC 9110, section 7.6.1) or that the client sets itself.
const NOT_THE_CALLERS: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::ACCEPT_ENCODING,
];

/// # Errors
/// [`Rule::Header`]
pub(super) fn check(headers: &HeaderMap) -> Result<(), Rule> {
    let is_foreign = |name: &HeaderName| NOT_THE_CALLERS.contains(name) || name.as_str().starts_with("http2-");
    if headers.keys().any(is_foreign) { Err(Rule::Header) } else { Ok(()) }
}

/// Bytes of names and values together.
pub(super) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_connection_is_not_the_callers() {
        for name in NOT_THE_CALLERS.iter().map(HeaderName::as_str).chain(["http2-settings"]) {
            let mut headers = headers(&[("accept", "*/*")]);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), "x".parse().unwrap());
            assert_eq!(check(&headers), Err(Rule::Header), "{name}");
        }
        let mine =
            [("accept", "*/*"), ("authorization", "x"), ("cookie", "x"), ("x-host", "x"), ("user-agent", "x"), ("hostx", "x")];
        assert_eq!(check(&headers(&mine)), Ok(()));
    }

    #[test]
    fn a_size_is_that_of_names_and_values() {
        assert_eq!(size(&HeaderMap::new()), 0);
        assert_eq!(size(&headers(&[("ab", "cde"), ("f", "")])), 6);
    }
}
