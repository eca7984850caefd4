//! An agent must not be talked into sending its own token somewhere: what it asks for is recorded, and may go outside.

use http::{HeaderMap, header};
use serde_json::{Map, Value};
use toolgate_security::{FieldError, Problem, SecretForms};

/// # Errors
/// 400 at every place that holds the bearer token of the request itself, in plain, percent-encoded or within base64.
pub fn refuse(
    headers: &HeaderMap,
    arguments: &Map<String, Value>,
    others: &[(&'static str, Option<&str>)],
) -> Result<(), Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((_, token)) = value.and_then(|value| value.split_once(' ')) else { return Ok(()) };
    let mut search = Search { token, forms: None, found: Vec::new() };
    for (pointer, text) in others {
        if text.is_some_and(|text| search.is_in(text)) {
            search.found.push((*pointer).to_owned());
        }
    }
    search.members("/arguments", arguments);
    if search.found.is_empty() {
        return Ok(());
    }
    let error = |pointer| FieldError { pointer, detail: "holds the token of this very request; it is never sent on".to_owned() };
    Err(Problem::invalid_all(search.found.into_iter().map(error).collect()))
}

struct Search<'a> {
    token: &'a str,
    forms: Option<SecretForms>,
    found: Vec<String>,
}

impl Search<'_> {
    fn is_in(&mut self, text: &str) -> bool {
        // No form of it is shorter, and hardly any argument as long: most requests cost nothing.
        text.len() >= self.token.len() && self.forms.get_or_insert_with(|| SecretForms::of(self.token)).are_in(text)
    }

    fn value(&mut self, pointer: &str, value: &Value) {
        match value {
            Value::String(text) if self.is_in(text) => self.found.push(pointer.to_owned()),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{pointer}/{index}"), item);
                }
            }
            Value::Object(members) => self.members(pointer, members),
            _ => {}
        }
    }

    fn members(&mut self, pointer: &str, members: &Map<String, Value>) {
        for (name, value) in members {
            if self.is_in(name) {
                // The pointer to the member itself would repeat its name.
                self.found.push(pointer.to_owned());
            } else {
                // RFC 6901, section 3.
                self.value(&format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";

    fn pointers(arguments: Value, key: Option<&str>) -> Vec<String> {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {TOKEN}").parse().unwrap())]);
        let Value::Object(arguments) = arguments else { unreachable!() };
        match refuse(&headers, &arguments, &[("/session_id", None), ("Idempotency-Key", key)]) {
            Ok(()) => Vec::new(),
            Err(problem) => problem.errors().iter().map(|error| error.pointer.clone()).collect(),
        }
    }

    #[test]
    fn the_requests_own_token_is_found_wherever_it_is() {
        assert_eq!(pointers(json!({"a": TOKEN}), None), ["/arguments/a"]);
        assert_eq!(pointers(json!({"a": [1, {"b/~": format!("Bearer {TOKEN}.")}]}), None), ["/arguments/a/1/b~1~0"]);
        assert_eq!(pointers(json!({"a": {TOKEN: 1}}), None), ["/arguments/a"]);
        assert_eq!(pointers(json!({TOKEN: {"b": TOKEN}}), None), ["/arguments"]);
        assert_eq!(pointers(json!({"a": TOKEN, "b": TOKEN}), Some(TOKEN)), ["Idempotency-Key", "/arguments/a", "/arguments/b"]);
        // base64 of ":" and the token.
        let encoded = "OmV5SmhiR2NpT2lKRlpFUlRRU0o5LmV5SnpkV0lpT2lKaEluMC5jMmxuYm1GMGRYSmw=";
        assert_eq!(pointers(json!({"a": encoded}), None), ["/arguments/a"]);
    }

    #[test]
    fn other_text_is_none_of_its_business() {
        let other = TOKEN.replace("c2ln", "c2lm");
        assert!(pointers(json!({"a": other, "b": &TOKEN[1..], "c": {"d": [null, true, 1.5]}}), Some("k")).is_empty());
        assert!(refuse(&HeaderMap::new(), &Map::new(), &[]).is_ok());
    }
}
