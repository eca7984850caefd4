use http::HeaderMap;
use toolgate_security::Problem;

const HEADER: &str = "idempotency-key";
/// Longest key, in characters.
const MAX_LENGTH: usize = 255;

/// The `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a quoted string of RFC 8941, or the bare characters that
/// most clients send. Both spellings name the same key.
pub fn parse(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let refused = |detail: &str| Err(Problem::invalid("Idempotency-Key", detail));
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return refused("sent more than once");
    }
    let text = value.to_str().map(str::trim);
    let Some(text) = text.ok().filter(|text| !text.contains('\t')) else { return refused("must be printable ASCII") };
    let Some(key) = unquote(text) else { return refused("the quoted string does not end, or has a bad escape") };
    if key.is_empty() || key.len() > MAX_LENGTH {
        return refused("must have 1 to 255 characters");
    }
    Ok(Some(key))
}

fn unquote(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut key = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => key.push(escaped),
                _ => return None,
            },
            other => key.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Result<Option<String>, ()> {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), value.parse().unwrap())]);
        parse(&headers).map_err(drop)
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(key("abc"), Ok(Some("abc".to_owned())));
        assert_eq!(key("\"abc\""), Ok(Some("abc".to_owned())));
        assert_eq!(key(r#""a\"b\\c""#), Ok(Some(r#"a"b\c"#.to_owned())));
        assert_eq!(parse(&HeaderMap::new()).map_err(drop), Ok(None));
    }

    #[test]
    fn the_length_is_bounded_exactly() {
        assert!(key(&"k".repeat(254)).is_ok());
        assert!(key(&"k".repeat(255)).is_ok());
        assert!(key(&"k".repeat(256)).is_err());
        assert!(key("").is_err());
        assert!(key("\"\"").is_err());
    }

    #[test]
    fn what_is_no_string_is_refused() {
        for bad in [r#""abc"#, r#""a"b"#, r#""a\x""#, "a\tb", "\"a\tb\""] {
            assert!(key(bad).is_err(), "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(HEADER, "a".parse().unwrap());
        twice.append(HEADER, "a".parse().unwrap());
        assert!(parse(&twice).is_err());
    }
}
