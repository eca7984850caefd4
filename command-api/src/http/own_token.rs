//! An agent must not be talked into sending its own token somewhere: what it asks for is recorded, and may go outside.

use std::borrow::Cow;

use http::{HeaderMap, header};
use serde_json::{Map, Value};
use toolgate_security::{FieldError, Problem, SecretForms, json_pointer};

/// Places listed at the most; more would help nobody.
const MAX_FOUND: usize = 32;

/// # Errors
/// 400 at the first places that hold the bearer token of the request itself, in plain, percent-encoded or within base64.
pub fn refuse(
    headers: &HeaderMap,
    arguments: &Map<String, Value>,
    others: &[(&'static str, Option<&str>)],
) -> Result<(), Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((_, token)) = value.and_then(|value| value.split_once(' ')) else { return Ok(()) };
    let mut search = Search { token, forms: None, path: vec![Segment::Name("arguments")], found: Vec::new() };
    for (pointer, text) in others {
        if text.is_some_and(|text| search.is_in(text)) {
            search.found.push((*pointer).to_owned());
        }
    }
    search.members(arguments);
    if search.found.is_empty() {
        return Ok(());
    }
    let error = |pointer| FieldError { pointer, detail: "holds the token of this very request; it is never sent on".to_owned() };
    Err(Problem::invalid_all(search.found.into_iter().map(error).collect()))
}

struct Search<'a> {
    token: &'a str,
    forms: Option<SecretForms>,
    /// Where the search is. A pointer is made of it only where something is found: every one of them repeats the names above.
    path: Vec<Segment<'a>>,
    found: Vec<String>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Search<'a> {
    fn is_in(&mut self, text: &str) -> bool {
        // No form of it is shorter, and hardly any argument as long: most requests cost nothing.
        text.len() >= self.token.len() && self.forms.get_or_insert_with(|| SecretForms::of(self.token)).are_in(text)
    }

    fn value(&mut self, segment: Segment<'a>, value: &'a Value) {
        self.path.push(segment);
        match value {
            Value::String(text) if self.is_in(text) => self.is_found(),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if self.has_enough() {
                        break;
                    }
                    self.value(Segment::Index(index), item);
                }
            }
            Value::Object(members) => self.members(members),
            _ => {}
        }
        self.path.pop();
    }

    fn members(&mut self, members: &'a Map<String, Value>) {
        for (name, value) in members {
            if self.has_enough() {
                break;
            }
            if self.is_in(name) {
                // The pointer to the member itself would repeat its name.
                self.is_found();
            } else {
                self.value(Segment::Name(name), value);
            }
        }
    }

    fn is_found(&mut self) {
        let names: Vec<_> = self.path.iter().map(Segment::name).collect();
        self.found.push(json_pointer(names.iter().map(AsRef::as_ref)));
    }

    fn has_enough(&self) -> bool {
        self.found.len() >= MAX_FOUND
    }
}

impl<'a> Segment<'a> {
    fn name(&self) -> Cow<'a, str> {
        match self {
            Self::Name(name) => Cow::Borrowed(name),
            Self::Index(index) => Cow::Owned(index.to_string()),
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

    #[test]
    fn the_list_ends_at_its_limit_exactly() {
        for (count, listed) in [(MAX_FOUND - 1, MAX_FOUND - 1), (MAX_FOUND, MAX_FOUND), (MAX_FOUND + 1, MAX_FOUND)] {
            let names: Map<_, _> = (0..count).map(|number| (format!("{number}{TOKEN}"), json!(1))).collect();
            assert_eq!(pointers(json!({"a": vec![TOKEN; count]}), None).len(), listed, "{count}");
            assert_eq!(pointers(Value::Object(names), None).len(), listed, "{count}");
            assert_eq!(pointers(json!({"a": vec![TOKEN; count]}), Some(TOKEN)).len(), (count + 1).min(MAX_FOUND), "{count}");
        }
    }

    #[test]
    fn a_long_name_is_repeated_nowhere() {
        let name = "k".repeat(128 * 1024);
        assert_eq!(pointers(json!({&name: vec![TOKEN; 500]}), None), vec!["/arguments"; MAX_FOUND]);
        assert_eq!(pointers(json!({"a": {&name: [{"b": TOKEN}]}}), None), ["/arguments/a"]);
    }

    #[test]
    fn a_long_name_above_many_values_costs_no_more_than_its_length() {
        // A pointer for each value would be eight terabytes in all: that test would not end.
        let name = "k".repeat(8 * 1024 * 1024);
        assert!(pointers(json!({name: vec![0; 1024 * 1024]}), None).is_empty());
    }
}
