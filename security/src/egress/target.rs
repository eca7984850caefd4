use url::{Host, Url};

use super::Rule;

/// Bytes of a URL at the most.
const MAX_LENGTH: usize = 8 * 1024;

/// Reads the URL of a request into its normal form.
///
/// # Errors
/// [`Rule::Url`], [`Rule::Scheme`] or [`Rule::Userinfo`]
pub(super) fn parse(text: &str) -> Result<Url, Rule> {
    check_text(text)?;
    let (scheme, rest) = text.split_once(':').ok_or(Rule::Url)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(Rule::Scheme);
    }
    // Browsers accept any number of slashes; other readers take what follows for a path.
    if rest.strip_prefix("//").is_none_or(|rest| rest.starts_with('/')) {
        return Err(Rule::Url);
    }
    settle(Url::parse(text).map_err(|_| Rule::Url)?)
}

/// Where `location` leads from `base` (RFC 9110, section 10.2.2).
///
/// # Errors
/// Those of [`parse`].
pub(super) fn join(base: &Url, location: &str) -> Result<Url, Rule> {
    check_text(location)?;
    settle(base.join(location).map_err(|_| Rule::Url)?)
}

/// Characters that one reader of URLs drops, another turns into slashes, and a third sends.
fn check_text(text: &str) -> Result<(), Rule> {
    let is_doubtful = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
    if text.len() > MAX_LENGTH || text.contains(is_doubtful) { Err(Rule::Url) } else { Ok(()) }
}

fn settle(mut url: Url) -> Result<Url, Rule> {
    if !["http", "https"].contains(&url.scheme()) {
        return Err(Rule::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Rule::Userinfo);
    }
    // The dot of the root makes another text of the same name.
    if let Some(Host::Domain(name)) = url.host()
        && let Some(name) = name.strip_suffix('.').map(str::to_owned)
    {
        url.set_host(Some(&name)).map_err(|_| Rule::Url)?;
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Result<String, Rule> {
        parse(text).map(String::from)
    }

    #[test]
    fn one_place_has_one_spelling() {
        for (text, url) in [
            ("https://Example.COM", "https://example.com/"),
            ("HTTPS://example.com./a?b#c", "https://example.com/a?b"),
            ("http://example.com:80/", "http://example.com/"),
            ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
            ("https://example。com/", "https://example.com/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://0x7f.1./", "http://127.0.0.1/"),
            ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
            ("http://[::ffff:7f00:1]/", "http://[::ffff:7f00:1]/"),
            ("https://example.com/../@b", "https://example.com/@b"),
        ] {
            assert_eq!(normal(text).as_deref(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "https:",
            "https:/a",
            "https:a",
            "https:///a",
            "https://",
            "https://a b/",
            " https://a/",
            "https://a/\n",
            "https://a\t/",
            "https://a\\@b/",
            "https:\\\\a",
            "https://a/\u{85}",
            "https://a/\u{3000}b",
            "https://[fe80::1%25eth0]/",
            "https://[fe80::1%eth0]/",
            "https://a:99999/",
            "https://a:x/",
            "https://1.2.3.256/",
            "https://[::1/",
            "https://a%00b/",
            "https://a%2fb/",
            "//a/",
        ] {
            assert_eq!(normal(text), Err(Rule::Url), "{text:?}");
        }
        for text in [
            "ftp://a/",
            "file:///etc/passwd",
            "gopher://a/",
            "data:,x",
            "javascript:1",
            "unix:/run/x",
            "httpx://a/",
            "HTTP+UNIX://a",
        ] {
            assert_eq!(normal(text), Err(Rule::Scheme), "{text}");
        }
        for text in
            ["https://u@a/", "https://u:p@a/", "https://:p@a/", "https://allowed:443@evil/", "https://a%40b@c/", "https://a@b@c/"]
        {
            assert_eq!(normal(text), Err(Rule::Userinfo), "{text}");
        }
    }

    #[test]
    fn the_length_is_bounded_exactly() {
        let long = |length: usize| format!("https://a/{}", "x".repeat(length - 10));
        assert!(parse(&long(MAX_LENGTH - 1)).is_ok() && parse(&long(MAX_LENGTH)).is_ok());
        assert_eq!(parse(&long(MAX_LENGTH + 1)), Err(Rule::Url));
    }

    #[test]
    fn a_location_is_read_like_a_url() {
        let base = parse("https://a.example/x/y?z").unwrap();
        for (location, url) in [
            ("w", "https://a.example/x/w"),
            ("/w", "https://a.example/w"),
            ("?q", "https://a.example/x/y?q"),
            ("//b.example./w", "https://b.example/w"),
            ("http://b.example/#f", "http://b.example/"),
        ] {
            assert_eq!(join(&base, location).map(String::from).as_deref(), Ok(url), "{location}");
        }
        assert_eq!(join(&base, "/\\b.example"), Err(Rule::Url));
        assert_eq!(join(&base, "//u@b.example/"), Err(Rule::Userinfo));
        assert_eq!(join(&base, "ftp://b.example/"), Err(Rule::Scheme));
        assert_eq!(join(&base, "//[/"), Err(Rule::Url));
    }
}
