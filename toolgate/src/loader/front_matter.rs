//! What a Markdown file says about itself before its text: TOML between `+++`, or between `---` the plain part of YAML, which is
//! `name: value`, `name: [a, b]`, and lists of one item a line. Nested YAML is left out.

use serde_json::{Map, Value};

/// The members, and the text after them.
///
/// # Errors
/// Says what is wrong with it.
pub fn split(text: &str) -> Result<(Map<String, Value>, &str), String> {
    for (fence, parse) in [("+++", toml as fn(&str) -> _), ("---", |text| Ok(yaml(text)))] {
        let Some(rest) = after_line(text, fence) else { continue };
        let mut length = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim_end() == fence {
                return Ok((parse(&rest[..length])?, &rest[length + line.len()..]));
            }
            length += line.len();
        }
        // No end: a thematic break, and not front matter.
        return if fence == "+++" { Err("the front matter has no end".to_owned()) } else { Ok((Map::new(), text)) };
    }
    Ok((Map::new(), text))
}

fn after_line<'a>(text: &'a str, line: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(line)?;
    rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n'))
}

fn toml(text: &str) -> Result<Map<String, Value>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| format!("the front matter: {}", error.message()))?;
    Ok(table.into_iter().map(|(name, value)| (name, json(value))).collect())
}

/// Dates become text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(name, value)| (name, json(value))).collect()),
    }
}

fn yaml(text: &str) -> Map<String, Value> {
    let mut members = Map::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        // Indented lines belong to what was left out, lines with # are comments.
        let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t', '#', '-'])) else { continue };
        let value = value.split(" #").next().unwrap_or_default().trim();
        let mut items = Vec::new();
        while value.is_empty() {
            let Some(item) = lines.peek().and_then(|line| line.trim_start().strip_prefix("- ")) else { break };
            items.push(scalar(item));
            lines.next();
        }
        let value = match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(list) => list.split(',').filter(|item| !item.trim().is_empty()).map(scalar).collect(),
            None if !items.is_empty() => Value::Array(items),
            None if value.is_empty() || value.starts_with(['{', '[', '|', '>', '&', '*', '!']) => continue,
            None => scalar(value),
        };
        members.insert(name.trim().to_owned(), value);
    }
    members
}

fn scalar(text: &str) -> Value {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return quoted.into();
        }
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_notations_say_the_same() {
        let yaml = "---\ntitle: \"Refunds: how\"\nlocale: id # Indonesian\ntags: [a, 'b c']\nteams:\n  - x\n  - y\ndraft: true\n\
                    author:\n  name: Ada\n---\nText";
        let toml = "+++\ntitle = \"Refunds: how\"\nlocale = \"id\"\ntags = [\"a\", \"b c\"]\nteams = [\"x\", \"y\"]\ndraft = true\n+++\nText";
        let said = json!({"title": "Refunds: how", "locale": "id", "tags": ["a", "b c"], "teams": ["x", "y"], "draft": true});
        for text in [yaml.to_owned(), toml.to_owned(), yaml.replace('\n', "\r\n")] {
            let (members, content) = split(&text).unwrap();
            assert_eq!((Value::Object(members), content), (said.clone(), "Text"), "{text}");
        }
    }

    #[test]
    fn what_is_no_front_matter_is_text() {
        for text in ["Text", "---\nbroken off", "----\nx\n---\n", "", "a\n---\nb: c\n---\n"] {
            assert_eq!(split(text).unwrap(), (Map::new(), text));
        }
        assert!(split("+++\ntitle = \n+++\n").is_err());
        assert!(split("+++\ntitle = 1\n").is_err());
    }
}
