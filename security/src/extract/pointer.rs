//! JSON pointers (RFC 6901).

/// Characters of a pointer at the most: a client chooses its keys, and need not get all of them back.
const MAX_LENGTH: usize = 512;

/// The pointer along `path`, or to the last member on the way whose pointer is not too long.
pub fn bounded<'a>(path: impl IntoIterator<Item = &'a str>) -> String {
    let mut pointer = String::new();
    for member in path {
        let escaped = member.replace('~', "~0").replace('/', "~1");
        if pointer.len() + 1 + escaped.len() > MAX_LENGTH {
            break;
        }
        pointer.push('/');
        pointer.push_str(&escaped);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_escaped() {
        assert_eq!(bounded([]), "");
        assert_eq!(bounded(["a", "0", ""]), "/a/0/");
        assert_eq!(bounded(["a/b", "m~n", "~1"]), "/a~1b/m~0n/~01");
    }

    #[test]
    fn a_pointer_ends_before_the_member_that_makes_it_too_long() {
        for (length, fits) in [(MAX_LENGTH - 4, true), (MAX_LENGTH - 3, true), (MAX_LENGTH - 2, false)] {
            let long = "k".repeat(length);
            let whole = format!("/a/{long}");
            assert_eq!(bounded(["a", &long]), if fits { whole.as_str() } else { "/a" }, "{length}");
        }
    }
}
