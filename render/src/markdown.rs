//! What both formats understand of Markdown, and how much of it they take.

use pulldown_cmark::{Event, Options, Parser, Tag};

use crate::{Error, Stop};

/// How deep lists, quotes and emphasis may be nested.
pub const MAX_DEPTH: usize = 16;
/// Paragraphs, headings, items, emphasised words, pieces of text and so on.
pub const MAX_ELEMENTS: usize = 200_000;
/// Of all tables together.
pub const MAX_TABLE_CELLS: usize = 20_000;
pub const MAX_TABLE_COLUMNS: usize = 64;

pub(crate) fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS)
}

/// Refuses a text that has too much of something, before anything is made of it.
pub(crate) fn measure(text: &str, stop: Stop<'_>) -> Result<(), Error> {
    let (mut depth, mut elements, mut cells) = (0, 0, 0);
    for event in parse(text) {
        elements += 1;
        match event {
            Event::Start(tag) => {
                depth += 1;
                match tag {
                    Tag::Table(columns) => within(columns.len(), MAX_TABLE_COLUMNS, "columns in a table")?,
                    Tag::TableCell => cells += 1,
                    _ => {}
                }
            }
            Event::End(_) => depth -= 1,
            _ => {}
        }
        within(depth, MAX_DEPTH, "levels of lists, quotes and emphasis")?;
        within(elements, MAX_ELEMENTS, "elements")?;
        within(cells, MAX_TABLE_CELLS, "table cells")?;
        if elements % 1024 == 0 && stop() {
            return Err(Error::Stopped);
        }
    }
    Ok(())
}

fn within(found: usize, limit: usize, of: &'static str) -> Result<(), Error> {
    if found > limit { Err(Error::TooMuch { limit, of }) } else { Ok(()) }
}

/// Whether a link leads to the web or to mail.
pub(crate) fn is_harmless(url: &str) -> bool {
    ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}
