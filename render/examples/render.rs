//! `render <html|pdf> [locale] < text.md > document`

use std::io::{Read, Write};

use toolgate_render::{Document, Format, render};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let format = if arguments.next().as_deref() == Some("html") { Format::Html } else { Format::Pdf };
    let locale = arguments.next();
    let mut markdown = String::new();
    std::io::stdin().read_to_string(&mut markdown)?;
    let document = Document { title: "Quarterly report", markdown: &markdown, data: None, locale: locale.as_deref() };
    let rendered = render(&document, format, &|| false)?;
    std::io::stdout().write_all(&rendered.bytes)?;
    Ok(())
}
