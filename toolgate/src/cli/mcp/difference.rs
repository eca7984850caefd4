use std::collections::BTreeSet;

use serde_json::Value;
use toolgate_events::mcp::{Definition, clean};

/// What differs between two definitions, one line for each value, by its JSON pointer.
pub fn lines(pinned: Option<&Definition>, live: Option<&Definition>) -> Vec<String> {
    let value = |definition: Option<&Definition>| definition.and_then(|definition| serde_json::to_value(definition).ok());
    let mut lines = Vec::new();
    compare("", value(pinned).as_ref(), value(live).as_ref(), &mut lines);
    lines
}

fn compare(pointer: &str, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for name in names {
                let within = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                compare(&within, before.get(name), after.get(name), lines);
            }
        }
        (before, after) => {
            for (sign, value) in [('-', before), ('+', after)] {
                lines.extend(value.map(|value| format!("{sign} {}: {}", visible(pointer), visible(&value.to_string()))));
            }
        }
    }
}

/// The text with everything spelled out that a terminal would not show, or would obey.
pub fn visible(text: &str) -> String {
    let mut buffer = [0; 4];
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        let is_plain = c != '\n' && !clean(c.encode_utf8(&mut buffer)).is_empty();
        if is_plain { visible.push(c) } else { visible.extend(c.escape_unicode()) }
    }
    visible
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_that_differs_has_its_line() {
        let definition = |description: &str, schema: Value| Definition {
            name: "t".to_owned(),
            title: None,
            description: Some(description.to_owned()),
            input_schema: schema,
            output_schema: None,
            annotations: None,
        };
        let pinned = definition("Reads.", json!({"type": "object", "properties": {"a/b": {"type": "string"}}}));
        let live = definition("Reads.\u{1b}[2J\u{202e}", json!({"type": "object", "required": ["x"], "properties": {}}));
        assert_eq!(
            lines(Some(&pinned), Some(&live)),
            [
                r#"- /description: "Reads.""#,
                r#"+ /description: "Reads.\u001b[2J\u{202e}""#,
                r#"- /input_schema/properties/a~1b: {"type":"string"}"#,
                r#"+ /input_schema/required: ["x"]"#,
            ]
        );
        assert_eq!(lines(Some(&pinned), Some(&pinned)), [""; 0]);
        assert_eq!(lines(None, Some(&pinned)).len(), 1);
    }
}
