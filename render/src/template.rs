//! Templates in Jinja syntax (minijinja). A template reads its data and nothing else: there is no loader, so it includes nothing.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value};

use crate::{Document, Error, MAX_TEXT_BYTES, Stop};

/// Template instructions before a runaway loop is stopped.
const MAX_FUEL: u64 = 1_000_000;

/// Whether `markdown` can be a template.
///
/// # Errors
/// [`Error::Template`] says what is wrong with it.
pub fn check(markdown: &str) -> Result<(), Error> {
    environment().template_from_str(markdown).map(drop).map_err(|error| invalid(&error))
}

/// The Markdown of a document, filled in where it has data.
pub(crate) fn text_of<'a>(document: &Document<'a>, stop: Stop<'_>) -> Result<Cow<'a, str>, Error> {
    let text = match document.data {
        Some(data) => Cow::Owned(fill_in(document.markdown, data, stop)?),
        None => Cow::Borrowed(document.markdown),
    };
    if text.len() > MAX_TEXT_BYTES {
        return Err(too_long());
    }
    Ok(text)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(MAX_FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

fn fill_in(template: &str, data: &Map<String, Value>, stop: Stop<'_>) -> Result<String, Error> {
    let environment = environment();
    let template = environment.template_from_str(template).map_err(|error| invalid(&error))?;
    let mut out = Bounded { bytes: Vec::new(), stop, refusal: None };
    let filled = template.render_captured_to(minijinja::value::Serde(data), &mut out);
    if let Some(refusal) = out.refusal {
        return Err(refusal);
    }
    filled.map_err(|error| Error::Template(format!("the template cannot be filled in: {error}")))?;
    String::from_utf8(out.bytes).map_err(|error| Error::Fault(error.to_string()))
}

fn invalid(error: &minijinja::Error) -> Error {
    Error::Template(format!("the template is not valid: {error}"))
}

fn too_long() -> Error {
    Error::TooMuch { limit: MAX_TEXT_BYTES, of: "bytes of text" }
}

/// Takes what a template writes, until it is too much or nobody wants it.
struct Bounded<'a> {
    bytes: Vec<u8>,
    stop: Stop<'a>,
    refusal: Option<Error>,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let refusal = if (self.stop)() {
            Some(Error::Stopped)
        } else if self.bytes.len() + bytes.len() > MAX_TEXT_BYTES {
            Some(too_long())
        } else {
            None
        };
        if refusal.is_some() {
            self.refusal = refusal;
            return Err(io::Error::other("enough"));
        }
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(template: &str, data: Value) -> Result<String, Error> {
        let Value::Object(data) = data else { panic!("{data} is no object") };
        let document = Document { title: "T", markdown: template, data: Some(&data), locale: None };
        text_of(&document, &|| false).map(Cow::into_owned)
    }

    fn without_data(markdown: &str) -> Result<Cow<'_, str>, Error> {
        text_of(&Document { title: "T", markdown, data: None, locale: None }, &|| false)
    }

    #[test]
    fn a_template_is_filled_in_and_without_data_braces_are_just_text() {
        assert_eq!(filled("Hello {{ name }}", json!({"name": "Ada"})).unwrap(), "Hello Ada");
        assert_eq!(without_data("{{ name }}").unwrap(), "{{ name }}");
    }

    #[test]
    fn a_bad_template_is_an_error() {
        for (template, words) in [("{{ name", "not valid"), ("{{ missing }}", "filled in"), ("{% include 'x' %}", "filled in")] {
            let error = filled(template, json!({})).unwrap_err();
            assert!(matches!(&error, Error::Template(text) if text.contains(words)), "{error}");
        }
        assert!(check("{% if %}").is_err() && check("{{ name }}").is_ok());
    }

    #[test]
    fn a_template_cannot_run_for_long_or_grow_for_ever() {
        for template in [
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}",
            "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{{ 'x' * 1000000000 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        ] {
            assert!(filled(template, json!({})).is_err(), "{template}");
        }
    }

    #[test]
    fn the_longest_text_is_one_mebibyte() {
        let too_long = Err(too_long());
        for (expected, length) in
            [(Ok(MAX_TEXT_BYTES - 1), MAX_TEXT_BYTES - 1), (Ok(MAX_TEXT_BYTES), MAX_TEXT_BYTES), (too_long, MAX_TEXT_BYTES + 1)]
        {
            assert_eq!(without_data(&"x".repeat(length)).map(|text| text.len()), expected);
            assert_eq!(filled("{{ x }}", json!({"x": "x".repeat(length)})).map(|text| text.len()), expected);
        }
    }

    #[test]
    fn filling_in_stops_when_told() {
        let data = Map::new();
        let document = Document { title: "T", markdown: "{{ 1 }}", data: Some(&data), locale: None };
        assert_eq!(text_of(&document, &|| true), Err(Error::Stopped));
    }
}
