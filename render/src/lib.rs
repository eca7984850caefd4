//! Markdown, or a template and its data, to the bytes of an HTML page or a PDF.
//!
//! Pure: no files, no network, no clock, no random numbers. Equal input gives equal bytes, in any process. It knows neither tenants
//! nor where the bytes go.
//!
//! What a document may cost is bounded by constants, for whoever writes one may mean harm: [`MAX_TEXT_BYTES`], [`MAX_DEPTH`],
//! [`MAX_ELEMENTS`], [`MAX_TABLE_CELLS`], [`MAX_TABLE_COLUMNS`] and [`MAX_BYTES`]; of PDFs also [`MAX_PARAGRAPH_BYTES`],
//! [`MAX_PARAGRAPH_PIECES`], [`MAX_CODE_LINES`] and [`MAX_PAGES`]. Between these, [`Stop`] is asked whether to go on.

mod html;
mod markdown;
mod pdf;
mod template;

use serde_json::{Map, Value};

pub use markdown::{
    MAX_CODE_LINES, MAX_DEPTH, MAX_ELEMENTS, MAX_PARAGRAPH_BYTES, MAX_PARAGRAPH_PIECES, MAX_TABLE_CELLS, MAX_TABLE_COLUMNS,
};
pub use pdf::MAX_PAGES;
pub use template::check as check_template;

/// Longest text, once it is filled in, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Largest result, in bytes.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;

/// What to render.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    pub title: &'a str,
    /// Markdown (CommonMark with tables, strikethrough and task lists).
    pub markdown: &'a str,
    /// With data, the Markdown is a template in Jinja syntax, and is filled in first.
    pub data: Option<&'a Map<String, Value>>,
    /// Language of the text (BCP 47): decides about hyphens and quotation marks.
    pub locale: Option<&'a str>,
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One self-contained page: no scripts, no foreign markup, nothing loaded from elsewhere.
    Html,
    /// Fonts embedded, tagged for screen readers, without a date.
    Pdf,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub bytes: Vec<u8>,
    /// Of a PDF.
    pub pages: Option<usize>,
}

/// Asked again and again while rendering; once it says yes, rendering ends soon.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// Why there is no document. The words are for whoever wrote it, but for those of [`Error::Fault`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Template(String),
    /// More than a document may have of something.
    #[error("the document has more than {limit} {of}")]
    TooMuch { limit: usize, of: &'static str },
    #[error("rendering was stopped")]
    Stopped,
    /// A fault of this crate or of what it builds on.
    #[error("{0}")]
    Fault(String),
}

/// Renders a document.
///
/// # Errors
/// [`Error`]
pub fn render(document: &Document<'_>, format: Format, stop: Stop<'_>) -> Result<Rendered, Error> {
    let text = template::text_of(document, stop)?;
    markdown::measure(&text, format, stop)?;
    let rendered = match format {
        Format::Html => Rendered { bytes: html::render(document.title, &text, document.locale).into_bytes(), pages: None },
        Format::Pdf => pdf::render(document.title, &text, document.locale, stop)?,
    };
    markdown::within(rendered.bytes.len(), MAX_BYTES, "bytes")?;
    Ok(rendered)
}
