//! Markdown to a PDF, set by typst.
//!
//! The text of a document never meets typst's parser: it becomes elements of typst's content tree ([`content`]), and the only source
//! there is, `document.typ`, is ours.

mod content;
mod world;

use std::panic::{self, AssertUnwindSafe};

use rayon::ThreadPoolBuilder;
use typst::{
    diag::SourceDiagnostic,
    foundations::{Content, Smart},
};
use typst_layout::PagedDocument;
use typst_pdf::PdfOptions;

use crate::{Error, Rendered, Stop, markdown};
use world::{DocumentWorld, Interrupted};

pub const MAX_PAGES: usize = 500;

/// typst works on nested elements by recursion. What a build without optimisation needs for the deepest document is a quarter of it.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Sets a document on a thread of its own, which ends with it.
pub(crate) fn render(title: &str, text: &str, locale: Option<&str>, stop: Stop<'_>) -> Result<Rendered, Error> {
    // typst spreads its work over the rayon pool it is called in: a pool of one keeps a document from taking every core.
    let thread = ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).thread_name(|_| "render".to_owned()).build();
    let thread = thread.map_err(|error| Error::Fault(error.to_string()))?;
    let rendered = thread.install(|| {
        let set = AssertUnwindSafe(|| set(title, text, locale, stop));
        panic::catch_unwind(set).unwrap_or_else(|payload| {
            Err(if payload.is::<Interrupted>() { Error::Stopped } else { Error::Fault("typst panicked".to_owned()) })
        })
    });
    // typst remembers all it has set, process-wide: nothing of it may stay behind.
    typst::comemo::evict(0);
    rendered
}

fn set(title: &str, text: &str, locale: Option<&str>, stop: Stop<'_>) -> Result<Rendered, Error> {
    let body: Content = content::of(title, text);
    let world = DocumentWorld::new(title, body, locale, stop);
    let document: PagedDocument = typst::compile(&world).output.map_err(|errors| fault(&errors))?;
    let pages = document.pages().len();
    markdown::within(pages, MAX_PAGES, "pages")?;
    let options = PdfOptions { creator: Smart::Custom(Some("toolgate".to_owned())), ..PdfOptions::default() };
    let bytes = typst_pdf::pdf(&document, &options).map_err(|errors| fault(&errors))?;
    Ok(Rendered { bytes, pages: Some(pages) })
}

fn fault(errors: &[SourceDiagnostic]) -> Error {
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    Error::Fault(messages.join("; "))
}
