use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use url::Url;

use super::{Rule, target};

/// One request on its way, in its normal form.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Headers that another origin may see as well. Any other may be a credential, whatever its name.
const FOR_EVERYBODY: [HeaderName; 6] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::CONTENT_LANGUAGE,
    header::USER_AGENT,
    HeaderName::from_static("idempotency-key"),
];
/// Headers that say something about a body.
const OF_THE_BODY: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_LANGUAGE, header::CONTENT_ENCODING, header::CONTENT_LOCATION];

impl Hop {
    /// The request that an answer leads to, if it leads anywhere (RFC 9110, section 15.4).
    ///
    /// # Errors
    /// When it leads where nobody should go. Whether the host may be reached is judged later, like that of any request.
    pub fn next(&self, status: StatusCode, headers: &HeaderMap) -> Result<Option<Self>, Rule> {
        let method = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if self.method == Method::POST => Method::GET,
            StatusCode::SEE_OTHER if self.method != Method::HEAD => Method::GET,
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => self.method.clone(),
            _ => return Ok(None),
        };
        let mut locations = headers.get_all(header::LOCATION).iter();
        let Some(location) = locations.next() else { return Ok(None) };
        if locations.next().is_some() {
            return Err(Rule::Redirect);
        }
        let url = target::join(&self.url, location.to_str().map_err(|_| Rule::Redirect)?)?;
        if self.url.scheme() == "https" && url.scheme() != "https" {
            return Err(Rule::Downgrade);
        }
        let mut next = Self { method, url, ..self.clone() };
        if next.method != self.method {
            next.body = Bytes::new();
            OF_THE_BODY.iter().for_each(|name| drop(next.headers.remove(name)));
        }
        if next.url.origin() != self.url.origin() {
            let kept = FOR_EVERYBODY.into_iter().filter_map(|name| Some((name.clone(), next.headers.get(&name)?.clone())));
            next.headers = kept.collect();
        }
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method, url: &str) -> Hop {
        let headers = [
            ("authorization", "Bearer secret"),
            ("cookie", "secret"),
            ("x-api-key", "secret"),
            ("accept", "text/plain"),
            ("content-type", "text/x"),
            ("content-encoding", "x"),
            ("idempotency-key", "k"),
        ];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        Hop { method, url: Url::parse(url).unwrap(), headers: HeaderMap::from_iter(headers), body: Bytes::from_static(b"body") }
    }

    fn next(hop: &Hop, status: u16, location: &str) -> Result<Option<Hop>, Rule> {
        let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
        hop.next(StatusCode::from_u16(status).unwrap(), &headers)
    }

    fn names(hop: &Hop) -> Vec<&str> {
        let mut names: Vec<_> = hop.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_method_follows_the_rfc() {
        let (get, post, put, head) = (Method::GET, Method::POST, Method::PUT, Method::HEAD);
        for (status, method, then) in [
            (301, &post, &get),
            (302, &post, &get),
            (303, &post, &get),
            (307, &post, &post),
            (308, &post, &post),
            (301, &put, &put),
            (302, &put, &put),
            (303, &put, &get),
            (307, &put, &put),
            (303, &head, &head),
            (301, &head, &head),
            (301, &get, &get),
            (303, &get, &get),
        ] {
            let next = next(&hop(method.clone(), "https://a/"), status, "/b").unwrap().unwrap();
            assert_eq!(next.method, *then, "{status} {method}");
            assert_eq!(next.url.as_str(), "https://a/b");
            let keeps_body = then == method;
            assert_eq!(next.body.is_empty(), !keeps_body, "{status} {method}");
            assert_eq!(next.headers.contains_key(header::CONTENT_TYPE), keeps_body, "{status} {method}");
            assert_eq!(next.headers.contains_key(header::CONTENT_ENCODING), keeps_body, "{status} {method}");
        }
    }

    #[test]
    fn only_five_statuses_lead_elsewhere() {
        for status in [200, 201, 300, 304, 305, 306, 309, 400, 500] {
            assert!(next(&hop(Method::GET, "https://a/"), status, "/b").unwrap().is_none(), "{status}");
        }
        assert!(hop(Method::GET, "https://a/").next(StatusCode::FOUND, &HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let hop = hop(Method::PUT, "https://a.example/");
        for same in ["/b", "https://a.example:443/b", "//a.example./b"] {
            assert_eq!(names(&next(&hop, 307, same).unwrap().unwrap()), names(&hop), "{same}");
        }
        for other in ["https://b.example/", "https://a.example:444/", "https://x.a.example/"] {
            let next = next(&hop, 307, other).unwrap().unwrap();
            assert_eq!(names(&next), ["accept", "content-type", "idempotency-key"], "{other}");
        }
        // Another scheme is another origin too.
        let plain = Hop { url: Url::parse("http://a.example/").unwrap(), ..hop };
        assert_eq!(names(&next(&plain, 307, "https://a.example/").unwrap().unwrap()).len(), 3);
    }

    #[test]
    fn what_leads_astray_is_refused() {
        let hop = hop(Method::GET, "https://a/");
        assert_eq!(next(&hop, 302, "http://a/").unwrap_err(), Rule::Downgrade);
        assert_eq!(next(&hop, 302, "file:///etc/passwd").unwrap_err(), Rule::Scheme);
        assert_eq!(next(&hop, 302, "https://u:p@a/").unwrap_err(), Rule::Userinfo);
        assert_eq!(next(&hop, 302, "https://a\\b/").unwrap_err(), Rule::Url);
        let mut headers = HeaderMap::from_iter([(header::LOCATION, http::HeaderValue::from_bytes(b"/\xff").unwrap())]);
        assert_eq!(hop.next(StatusCode::FOUND, &headers).unwrap_err(), Rule::Redirect);
        headers.insert(header::LOCATION, "/a".parse().unwrap());
        headers.append(header::LOCATION, "/a".parse().unwrap());
        assert_eq!(hop.next(StatusCode::FOUND, &headers).unwrap_err(), Rule::Redirect);
    }
}
