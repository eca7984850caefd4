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
    filled.map_err(|error| Error::Template(format!("the template cannot be filled in: {error:#}")))?;
    String::from_utf8(out.bytes).map_err(|error| Error::Fault(error.to_string()))
}

fn invalid(error: &minijinja::Error) -> Error {
    Error::Template(format!("the template is not valid: {error:#}"))
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
