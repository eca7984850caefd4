use http::HeaderMap;
use toolgate_security::Problem;

const HEADER: &str = "data-subject";
/// Longest id, in characters.
const MAX_LENGTH: usize = 128;

/// Whom the content of a call is about, as the caller calls them: an opaque id that goes no further than to the making of a pseudonym.
pub fn parse(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let refused = |detail: &str| Err(Problem::invalid("Data-Subject", detail));
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return refused("sent more than once");
    }
    let text = value.to_str().map(str::trim).unwrap_or_default();
    if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return refused("must be 1 to 128 printable ASCII characters");
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(values: &[&[u8]]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, http::HeaderValue::from_bytes(value).unwrap());
        }
        parse(&headers).map_err(drop)
    }

    #[test]
    fn the_length_is_bounded_exactly() {
        for (length, fits) in [(0, false), (1, true), (127, true), (128, true), (129, false)] {
            assert_eq!(subject(&["s".repeat(length).as_bytes()]).is_ok(), fits, "{length}");
        }
        assert_eq!(subject(&[]), Ok(None));
        assert_eq!(subject(&[b" patient 7 "]), Ok(Some("patient 7".to_owned())));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in [&[b"a".as_slice(), b"a"][..], &[b"a\tb"], &["größe".as_bytes()], &[b"\xff"]] {
            assert!(subject(bad).is_err(), "{bad:?}");
        }
    }
}
