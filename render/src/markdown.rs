//! What both formats understand of Markdown, and how much of it they take.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::{Error, Format, Stop};

/// How deep lists, quotes and emphasis may be nested.
pub const MAX_DEPTH: usize = 16;
/// Paragraphs, headings, items, emphasised words, pieces of text and so on: whatever begins, ends or stands between.
pub const MAX_ELEMENTS: usize = 100_000;
/// Of all tables together.
pub const MAX_TABLE_CELLS: usize = 20_000;
pub const MAX_TABLE_COLUMNS: usize = 64;
/// One paragraph, heading, cell or line of code of a PDF. typst breaks a paragraph into lines in one go, which takes the longer the
/// more there is to choose from, and cannot be stopped meanwhile.
pub const MAX_PARAGRAPH_BYTES: usize = 32 * 1024;
/// Pieces of one paragraph of a PDF: words of another kind, quotation marks, line ends.
pub const MAX_PARAGRAPH_PIECES: usize = 2_000;
/// Of one block of code of a PDF.
pub const MAX_CODE_LINES: usize = 2_000;

pub(crate) fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS)
}

/// Refuses a text that has too much of something, before anything is made of it.
pub(crate) fn measure(text: &str, format: Format, stop: Stop<'_>) -> Result<(), Error> {
    let (mut depth, mut elements, mut cells) = (0, 0, 0);
    let mut paragraph = Paragraph::default();
    for event in parse(text) {
        elements += 1;
        match &event {
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
        if format == Format::Pdf {
            paragraph.take(&event)?;
        }
        if elements % 1024 == 0 && stop() {
            return Err(Error::Stopped);
        }
    }
    Ok(())
}

/// What the paragraph, cell or block of code has that is being read.
#[derive(Default)]
struct Paragraph {
    bytes: usize,
    pieces: usize,
    /// In a block of code, where each line is set by itself.
    lines: Option<usize>,
}

impl Paragraph {
    fn take(&mut self, event: &Event<'_>) -> Result<(), Error> {
        match event {
            Event::Start(Tag::CodeBlock(_)) => *self = Self { lines: Some(1), ..Self::default() },
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. } | Tag::Image { .. })
            | Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image) => {
                self.pieces += 1;
            }
            Event::Start(_) | Event::End(_) => *self = Self::default(),
            Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(text)?,
            _ => self.pieces += 1,
        }
        within(self.pieces, MAX_PARAGRAPH_PIECES, "pieces in a paragraph")
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if let Some(lines) = &mut self.lines {
            for (number, line) in text.split('\n').enumerate() {
                if number > 0 {
                    *lines += 1;
                    self.bytes = 0;
                }
                self.bytes += line.len();
                within(self.bytes, MAX_PARAGRAPH_BYTES, "bytes in a line of code")?;
            }
            // The last line ends, too.
            return within(*lines, MAX_CODE_LINES + 1, "lines of code in a block");
        }
        self.bytes += text.len();
        self.pieces += 1 + 2 * text.bytes().filter(|byte| matches!(byte, b'"' | b'\'')).count();
        within(self.bytes, MAX_PARAGRAPH_BYTES, "bytes in a paragraph")
    }
}

/// # Errors
/// [`Error::TooMuch`]
pub(crate) fn within(found: usize, limit: usize, of: &'static str) -> Result<(), Error> {
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
        refused_as(text, Format::Html)
    }

    fn refused_as(text: &str, format: Format) -> Option<&'static str> {
        match measure(text, format, &|| false) {
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
        // Two tables, their heads included.
        let cells = |cells: usize| {
            let wide = cells / 10 - 2;
            format!("{}\n{}", table(10, wide - 1), table(1, cells - 10 * wide - 1))
        };
        for (found, count) in [(None, MAX_TABLE_CELLS - 1), (None, MAX_TABLE_CELLS), (Some("table cells"), MAX_TABLE_CELLS + 1)] {
            assert_eq!(refused(&cells(count)), found, "{count} cells");
        }
        let elements = MAX_ELEMENTS;
        for (found, elements) in [(None, elements - 1), (None, elements), (Some("elements"), elements + 1)] {
            assert_eq!(refused(&breaks(elements)), found, "{elements} elements");
        }
    }

    #[test]
    fn each_bound_of_a_pdf_holds_from_one_below_to_one_above() {
        type Text = fn(usize) -> String;
        let bounds: [(&str, usize, Text); 4] = [
            ("bytes in a paragraph", MAX_PARAGRAPH_BYTES, |bytes| format!("a\n\n{}\n\nb", "x".repeat(bytes))),
            ("bytes in a line of code", MAX_PARAGRAPH_BYTES, |bytes| format!("```\na\n{}\nb\n```", "x".repeat(bytes))),
            ("lines of code in a block", MAX_CODE_LINES, |lines| format!("```\n{}```", "x\n".repeat(lines))),
            // Each line end lies between two texts.
            ("pieces in a paragraph", MAX_PARAGRAPH_PIECES, |pieces| {
                "a\n".repeat(pieces / 2) + if pieces % 2 == 1 { "a" } else { "" }
            }),
        ];
        for (of, limit, text) in bounds {
            for (found, count) in [(None, limit - 1), (None, limit), (Some(of), limit + 1)] {
                assert_eq!(refused_as(&text(count), Format::Pdf), found, "{count} {of}");
                assert_eq!(refused_as(&text(count), Format::Html), None, "{count} {of}");
            }
        }
        assert_eq!(refused_as(&"\"".repeat(1_001), Format::Pdf), Some("pieces in a paragraph"));
        let many = "Some \"words\" and *others*.\n\n".repeat(2_000);
        assert_eq!(refused_as(&many, Format::Pdf), None, "each paragraph has its own");
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
        assert_eq!(measure(&"***\n".repeat(5_000), Format::Html, &|| true), Err(Error::Stopped));
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
