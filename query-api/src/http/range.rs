//! Parts of a representation (RFC 9110, section 14): one range of bytes at a time.

use http::{HeaderMap, header};

/// What of a representation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// From the first to the last byte, counted from 0.
    Bytes {
        first: u64,
        last: u64,
    },
    /// Nothing that there is.
    Unsatisfiable,
}

/// The part of `size` bytes that a GET asks for. Where several ranges are asked for, or in a way that means nothing, or under an
/// `If-Range` that holds no more, it is the whole: section 14.2 leaves that to the server.
pub(crate) fn asked(request: &HeaderMap, size: u64, etag: &str) -> Part {
    let mut values = request.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Part::Whole };
    if !still_holds(request, etag) {
        return Part::Whole;
    }
    value.to_str().ok().and_then(|value| parse(value, size)).unwrap_or(Part::Whole)
}

/// `If-Range` (section 13.1.5): compared strongly, and a date never holds, since no artifact tells one.
fn still_holds(request: &HeaderMap, etag: &str) -> bool {
    let mut values = request.get_all(header::IF_RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => value.as_bytes() == etag.as_bytes(),
        (Some(_), Some(_)) => false,
    }
}

/// `None` where the field is not one valid range of bytes.
fn parse(value: &str, size: u64) -> Option<Part> {
    let (unit, set) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // A list may have empty elements (section 5.6.1).
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return None };
    match spec.split_once('-')? {
        ("", suffix) => Some(match number(suffix)?.min(size) {
            0 => Part::Unsatisfiable,
            length => Part::Bytes { first: size - length, last: size - 1 },
        }),
        (first, last) => {
            let first = number(first)?;
            let last = if last.is_empty() { u64::MAX } else { number(last)? };
            if last < first {
                return None;
            }
            Some(if first < size { Part::Bytes { first, last: last.min(size - 1) } } else { Part::Unsatisfiable })
        }
    }
}

/// Of digits alone; what is too large to be counted is the largest there is.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn part(fields: &[(HeaderName, &'static str)], size: u64) -> Part {
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(name, HeaderValue::from_static(value));
        }
        asked(&request, size, "\"e\"")
    }

    fn of_ten(range: &'static str) -> Part {
        part(&[(header::RANGE, range)], 10)
    }

    #[test]
    fn a_range_ends_where_the_bytes_do() {
        let bytes = |first, last| Part::Bytes { first, last };
        for (range, expected) in [
            ("bytes=0-0", bytes(0, 0)),
            ("bytes=0-8", bytes(0, 8)),
            ("bytes=0-9", bytes(0, 9)),
            ("bytes=0-10", bytes(0, 9)),
            ("bytes=9-9", bytes(9, 9)),
            ("bytes=9-", bytes(9, 9)),
            ("bytes=0-", bytes(0, 9)),
            ("bytes=-1", bytes(9, 9)),
            ("bytes=-9", bytes(1, 9)),
            ("bytes=-10", bytes(0, 9)),
            ("bytes=-11", bytes(0, 9)),
            ("bytes=3-99999999999999999999999", bytes(3, 9)),
            ("BYTES=, 3-4 ,", bytes(3, 4)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=10-10", Part::Unsatisfiable),
            ("bytes=11-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
        ] {
            assert_eq!(of_ten(range), expected, "{range}");
        }
        assert_eq!(part(&[(header::RANGE, "bytes=-1")], 0), Part::Unsatisfiable);
        assert_eq!(part(&[(header::RANGE, "bytes=0-")], 0), Part::Unsatisfiable);
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_the_whole() {
        for range in [
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=--1",
            "bytes=0x1-2",
            "lines=0-1",
            "bytes =0-1",
            "0-1",
            "",
            "bytes=0-1,3-4",
            "bytes=0-1,99-",
        ] {
            assert_eq!(of_ten(range), Part::Whole, "{range}");
        }
        assert_eq!(part(&[], 10), Part::Whole);
        assert_eq!(part(&[(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=0-1")], 10), Part::Whole);
    }

    #[test]
    fn a_range_counts_only_under_the_tag_it_was_begun_with() {
        let under = |tag| part(&[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, tag)], 10);
        assert_eq!(under("\"e\""), Part::Bytes { first: 0, last: 1 });
        for tag in ["\"d\"", "W/\"e\"", "e", "*", "Wed, 21 Oct 2015 07:28:00 GMT", "\"e\", \"d\"", ""] {
            assert_eq!(under(tag), Part::Whole, "{tag}");
        }
        let twice = [(header::RANGE, "bytes=0-1"), (header::IF_RANGE, "\"e\""), (header::IF_RANGE, "\"e\"")];
        assert_eq!(part(&twice, 10), Part::Whole);
    }
}
