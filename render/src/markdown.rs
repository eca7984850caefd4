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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<&'static str> {
        match measure(text, &|| false) {
            Ok(()) => None,
            Err(Error::TooMuch { of, .. }) => Some(of),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn each_bound_holds_from_one_below_to_one_above() {
        // A paragraph is the innermost level.
        let quotes = |depth: usize| format!("{}x", "> ".repeat(depth - 1));
        let table = |columns: usize, rows: usize| {
            let row = |cell: &str| format!("|{}\n", format!("{cell}|").repeat(columns));
            format!("{}{}{}", row("h"), row("-"), row("x").repeat(rows))
        };
        let breaks = |elements: usize| "***\n".repeat(elements);
        for (found, levels) in
            [(None, MAX_DEPTH - 1), (None, MAX_DEPTH), (Some("levels of lists, quotes and emphasis"), MAX_DEPTH + 1)]
        {
            assert_eq!(refused(&quotes(levels)), found, "{levels} levels");
        }
        let columns = MAX_TABLE_COLUMNS;
        for (found, columns) in [(None, columns - 1), (None, columns), (Some("columns in a table"), columns + 1)] {
            assert_eq!(refused(&table(columns, 1)), found, "{columns} columns");
        }
        for (found, rows) in [(None, MAX_TABLE_CELLS - 2), (None, MAX_TABLE_CELLS - 1), (Some("table cells"), MAX_TABLE_CELLS)] {
            assert_eq!(refused(&table(1, rows)), found, "{rows} cells and the head's");
        }
        let elements = MAX_ELEMENTS;
        for (found, elements) in [(None, elements - 1), (None, elements), (Some("elements"), elements + 1)] {
            assert_eq!(refused(&breaks(elements)), found, "{elements} elements");
        }
    }

    #[test]
    fn nesting_has_no_depth_that_hurts() {
        for text in
            ["- ".repeat(10_000), "> ".repeat(10_000) + "x", "*a _b ".repeat(10_000), "[".repeat(100_000), "`".repeat(100_000)]
        {
            refused(&text);
        }
    }

    #[test]
    fn counting_stops_when_told() {
        assert_eq!(measure(&"***\n".repeat(5_000), &|| true), Err(Error::Stopped));
    }

    #[test]
    fn links_lead_to_the_web_or_to_mail() {
        for url in ["http://a.b", "HTTPS://a.b", "mailto:a@b"] {
            assert!(is_harmless(url), "{url}");
        }
        for url in ["javascript:x", "file:///etc/passwd", "data:text/html,x", "//a.b", "", "h", "\u{fc}\u{fc}\u{fc}\u{fc}"] {
            assert!(!is_harmless(url), "{url}");
        }
    }
}
