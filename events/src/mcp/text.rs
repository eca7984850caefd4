use std::borrow::Cow;

use serde_json::Value;

/// Characters of a description at the most.
const MAX_LENGTH: usize = 4_096;
/// What a schema says to its readers alone; everything else in it is a value.
pub(super) const DESCRIPTIVE: [&str; 3] = ["description", "title", "$comment"];

/// A stranger's text as it may be shown: without what cannot be seen but is read by models and terminals, and not too long.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) && text.chars().nth(MAX_LENGTH).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter(|c| is_plain(*c)).take(MAX_LENGTH).collect())
}

/// Cleans what a schema says to its readers.
pub(super) fn clean_schema(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if DESCRIPTIVE.contains(&name.as_str()) => {
                        if let Cow::Owned(cleaned) = clean(text) {
                            *text = cleaned;
                        }
                    }
                    member => clean_schema(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean_schema),
        _ => {}
    }
}

/// Neither a control character, but for line breaks and tabs, nor one that has no width, turns the writing direction, or is a tag.
pub(super) fn is_plain(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => false,
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => false,
        other => !other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        assert_eq!(clean("a\u{1b}[2Jb\u{200b}\u{202e}c\u{e0041}\r\nd\u{feff}\u{0}"), "a[2Jbc\nd");
        assert!(matches!(clean("Zürich,\n\t日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_length_is_bounded_exactly() {
        for (length, kept) in [(MAX_LENGTH - 1, MAX_LENGTH - 1), (MAX_LENGTH, MAX_LENGTH), (MAX_LENGTH + 1, MAX_LENGTH)] {
            assert_eq!(clean(&"é".repeat(length)).chars().count(), kept);
        }
    }

    #[test]
    fn a_schema_keeps_its_meaning() {
        let mut schema = json!({"title": "a\u{0}", "properties": {"title": {"description": "b\u{1b}", "const": "c\u{1b}"}}});
        clean_schema(&mut schema);
        assert_eq!(schema, json!({"title": "a", "properties": {"title": {"description": "b", "const": "c\u{1b}"}}}));
    }
}
