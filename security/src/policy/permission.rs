/// Whether `text` is a permission: `resource:action`, the resource in dotted segments, each segment and the action a word or `*`.
pub(super) fn is_permission(text: &str) -> bool {
    is_made_of(text, |part| part == "*" || is_word(part))
}

/// Whether `text` is a permission that can be asked for: one without a `*`.
pub fn is_concrete(text: &str) -> bool {
    is_made_of(text, is_word)
}

/// Whether a permission covers a concrete one: `*` stands for one whole segment.
///
/// Text against text, without memory of its own: decisions are made on every request, and a list of permissions is short. What
/// covers a concrete permission is a permission itself, so what a token grants needs no check of its form.
pub(super) fn covers(granted: &str, asked: &str) -> bool {
    let (Some((granted, granted_action)), Some((asked, action))) = (granted.split_once(':'), asked.split_once(':')) else {
        return false;
    };
    let same = |granted: &str, asked: &str| granted == "*" || granted == asked;
    let (mut granted, mut asked) = (granted.split('.'), asked.split('.'));
    loop {
        match (granted.next(), asked.next()) {
            (None, None) => return same(granted_action, action),
            (Some(granted), Some(asked)) if same(granted, asked) => {}
            _ => return false,
        }
    }
}

fn is_made_of(text: &str, is_part: impl Fn(&str) -> bool) -> bool {
    text.split_once(':').is_some_and(|(resource, action)| resource.split('.').all(&is_part) && is_part(action))
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_words_between_dots_and_one_colon() {
        for good in ["a:b", "a.b.c:d", "tool_call:read", "x-1:y_2", "0:9", "tool.mcp.server.tool:invoke"] {
            assert!(is_permission(good) && is_concrete(good), "{good:?}");
        }
        for star in ["*:*", "*:b", "a:*", "a.*.c:d", "*.*:*"] {
            assert!(is_permission(star) && !is_concrete(star), "{star:?}");
        }
        for bad in [
            "", ":", "a", "a:", ":b", "a:b:c", ".a:b", "a.:b", "a..b:c", "a.b", "A:b", "a:B", "a b:c", "a:b ", "a*:b", "a:*b",
            "**:b", "a.**:b", "ä:b", "a/b:c", "a:b.c", "a\0:b", "a:b\n",
        ] {
            assert!(!is_permission(bad) && !is_concrete(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_star_is_one_whole_segment() {
        for (granted, asked, expected) in [
            ("tool.task.create:invoke", "tool.task.create:invoke", true),
            ("tool.task.*:invoke", "tool.task.create:invoke", true),
            ("*.*.*:*", "tool.task.create:invoke", true),
            ("tool.*.create:invoke", "tool.task.create:invoke", true),
            ("tool.task.create:*", "tool.task.create:invoke", true),
            ("*:read", "tool_call:read", true),
            ("*:read", "tool_call:cancel", false),
            ("tool_call:read", "tool_call:cancel", false),
            ("tool_call:read", "tool_calls:read", false),
            // Not fewer segments, not more, not a part of one, and not the colon.
            ("tool.*:invoke", "tool.task.create:invoke", false),
            ("tool.*.*.*:invoke", "tool.task.create:invoke", false),
            ("tool.task.cre*:invoke", "tool.task.create:invoke", false),
            ("*", "tool_call:read", false),
            ("*.*", "tool_call:read", false),
            ("tool.task.create", "tool.task.create:invoke", false),
            ("", "a:b", false),
            ("a:b", "a", false),
            ("a:b:c", "a:b", false),
        ] {
            assert_eq!(covers(granted, asked), expected, "{granted} {asked}");
        }
    }
}
