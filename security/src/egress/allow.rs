use url::{Host, Url};

/// The hosts that tools may send requests to. Nothing is allowed that no entry names.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<Entry>);

/// `host` or `*.host`, with `:port` or without, and with `https://` or `http://` in front for one scheme alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    scheme: Option<&'static str>,
    host: Pattern,
    /// The scheme's own when absent.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(Host<String>),
    /// Every name under this one, and not itself. It begins with the dot.
    Under(String),
}

impl AllowList {
    /// # Errors
    /// The first entry that cannot be understood.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let entry = |text: &String| parse(text).ok_or_else(|| text.clone());
        Ok(Self(entries.iter().map(entry).collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request may go to the host and port of `url`, whose host must be in its normal form.
    pub(super) fn allows(&self, url: &Url) -> bool {
        self.0.iter().any(|entry| entry.allows(url))
    }
}

impl Entry {
    fn allows(&self, url: &Url) -> bool {
        let scheme = self.scheme.is_none_or(|scheme| scheme == url.scheme());
        let port = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            // The URL's own parser leaves a scheme's own port out.
            None => url.port().is_none(),
        };
        let host = match (&self.host, url.host()) {
            (Pattern::Exactly(host), Some(other)) => *host == other.to_owned(),
            (Pattern::Under(suffix), Some(Host::Domain(name))) => name.len() > suffix.len() && name.ends_with(suffix),
            _ => false,
        };
        scheme && port && host
    }
}

fn parse(text: &str) -> Option<Entry> {
    let schemes = ["https", "http"];
    let named = schemes.into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?.strip_prefix("://")?)));
    let (scheme, rest) = named.map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    // The colons of an IPv6 address are within its brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let port = match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok().filter(|port| *port != 0)?),
        Some(_) => return None,
        None => None,
    };
    let host = match host.strip_prefix("*.") {
        Some(parent) => match normal(parent)? {
            Host::Domain(name) => Pattern::Under(format!(".{name}")),
            Host::Ipv4(_) | Host::Ipv6(_) => return None,
        },
        None => Pattern::Exactly(normal(host)?),
    };
    Some(Entry { scheme, host, port })
}

fn normal(host: &str) -> Option<Host<String>> {
    match Host::parse(host).ok()? {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            // A label that is empty, and a star that stands for a part of a label, match nothing that exists.
            let is_name = name.split('.').all(|label| !label.is_empty() && !label.contains('*'));
            is_name.then(|| Host::Domain(name.to_owned()))
        }
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, url: &str) -> bool {
        AllowList::parse(&[entry.to_owned()]).unwrap().allows(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_host_is_matched_whole() {
        for url in ["https://example.com/", "http://example.com/x", "https://EXAMPLE.com:443/", "https://ｅxample。com/"] {
            assert!(allows("example.com", url) && allows("Example.COM.", url), "{url}");
        }
        for url in ["https://a.example.com/", "https://evilexample.com/", "https://example.com.evil/", "https://example.co/"] {
            assert!(!allows("example.com", url), "{url}");
        }
        assert!(allows("bücher.example", "https://xn--bcher-kva.example/"));
    }

    #[test]
    fn a_star_stands_for_one_label_or_more() {
        for url in ["https://a.example.com/", "https://b.a.example.com/"] {
            assert!(allows("*.example.com", url), "{url}");
        }
        for url in ["https://example.com/", "https://evilexample.com/", "https://a.example.com.evil/", "https://127.0.0.1/"] {
            assert!(!allows("*.example.com", url), "{url}");
        }
        // An empty label is nobody's.
        assert!(!allows("*.example.com", "https://example.com.:443/"));
    }

    #[test]
    fn without_a_port_the_schemes_own_is_meant() {
        assert!(allows("h", "https://h/") && allows("h", "http://h/") && allows("h", "http://h:80/"));
        assert!(!allows("h", "http://h:443/") && !allows("h", "https://h:80/") && !allows("h", "https://h:8443/"));
        assert!(allows("h:8443", "https://h:8443/") && allows("h:443", "https://h/") && allows("h:80", "http://h/"));
        assert!(!allows("h:8443", "https://h/") && !allows("h:80", "https://h/") && !allows("h:443", "http://h/"));
        assert!(!allows("*.h:1", "http://a.h:2/") && allows("*.h:1", "http://a.h:1/"));
    }

    #[test]
    fn a_scheme_excludes_the_other() {
        assert!(allows("https://h", "https://h/") && !allows("https://h", "http://h/"));
        assert!(allows("http://h:81", "http://h:81/") && !allows("http://h:81", "https://h:81/"));
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        assert!(allows("127.0.0.1:81", "http://0x7f.1:81/") && allows("0177.0.0.1", "https://127.0.0.1/"));
        assert!(allows("[::1]:81", "http://[0:0::1]:81/") && allows("[::1]", "https://[::1]/"));
        assert!(!allows("127.0.0.1", "https://[::ffff:127.0.0.1]/") && !allows("1.0.0.127", "https://127.0.0.1/"));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for wrong in [
            "",
            "*",
            "*.",
            "*.*.com",
            "a.*.com",
            "a*.com",
            "h:",
            "h:0",
            "h:65536",
            "h:+80",
            "h:8o",
            "h/",
            "h/x",
            "h?x",
            "h#x",
            "u@h",
            "h h",
            "ftp://h",
            "http://",
            "https://*",
            "[::1",
            "::1",
            "*.127.0.0.1",
            "*.[::1]",
            "a..b",
            "h\\x",
            "1.2.3.256",
        ] {
            assert_eq!(AllowList::parse(&["ok.example".to_owned(), wrong.to_owned()]).unwrap_err(), wrong);
        }
        assert!(AllowList::parse(&[]).unwrap().is_empty() && !AllowList::parse(&["h".to_owned()]).unwrap().is_empty());
    }
}
