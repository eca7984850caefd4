//! Markdown as elements of typst's content tree. Whatever somebody wrote ends as text in one of them.

use std::num::NonZeroUsize;

use pulldown_cmark::{Alignment as Column, CowStr, Event, LinkType, Tag, TagEnd};
use typst::{
    foundations::{Content, NativeElement, Packed, Smart},
    layout::{Alignment, Celled, HAlignment, Sizing, TrackSizings},
    model::{
        Destination, DividerElem, EmphElem, EnumElem, EnumItem, HeadingElem, LinkElem, LinkTarget, ListElem, ListItem, ParElem,
        QuoteElem, StrongElem, TableCell, TableChild, TableElem, TableHeader, TableItem, TitleElem, Url,
    },
    text::{LinebreakElem, RawContent, RawElem, SmartQuoteElem, SpaceElem, StrikeElem, TextElem},
};

use crate::markdown;

/// The title and the text under it. A heading at the beginning of the text that only repeats the title is left out.
pub fn of(title: &str, text: &str) -> Content {
    let mut builder = Builder { open: vec![Open::default()] };
    for event in markdown::parse(text) {
        builder.take(event);
    }
    let mut blocks = builder.open.pop().unwrap_or_default().children;
    let heads = blocks.first().and_then(|first| first.to_packed::<HeadingElem>());
    if heads.is_some_and(|heading| heading.body.plain_text() == title) {
        blocks.remove(0);
    }
    blocks.insert(0, TitleElem::new().pack());
    Content::sequence(blocks)
}

/// An element whose end has not come yet.
#[derive(Default)]
struct Open {
    children: Vec<Content>,
    /// Of a list.
    items: Vec<Content>,
    /// Of a list or an item: paragraphs of their own stand in it.
    loose: bool,
    /// Of a list: where its numbers begin.
    start: Option<u64>,
    /// Of a table.
    columns: Vec<Column>,
    cells: Vec<TableItem>,
    header: Vec<TableItem>,
    /// Of a link or an image.
    url: Option<Url>,
    /// Of a code block, where everything is literal.
    code: Option<String>,
}

struct Builder {
    open: Vec<Open>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.open.push(opened(tag)),
            Event::End(tag) => self.close(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(code) => self.push(RawElem::new(RawContent::Text(clean(&code).into())).pack()),
            Event::SoftBreak => self.push(SpaceElem::shared().clone()),
            Event::HardBreak => self.push(LinebreakElem::shared().clone()),
            Event::Rule => self.push(DividerElem::new().pack()),
            Event::TaskListMarker(done) => self.push(TextElem::packed(if done { "☑ " } else { "☐ " })),
            // Of extensions that are not switched on.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => self.text(&text),
        }
    }

    fn top(&mut self) -> &mut Open {
        if self.open.is_empty() {
            self.open.push(Open::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn push(&mut self, content: Content) {
        self.top().children.push(content);
    }

    fn text(&mut self, text: &str) {
        if let Some(code) = &mut self.top().code {
            code.push_str(&clean(text));
            return;
        }
        // Quotation marks are elements, so that they follow the language.
        let text = clean(text);
        for piece in text.split_inclusive(['"', '\'']) {
            let words = piece.trim_end_matches(['"', '\'']);
            if !words.is_empty() {
                self.push(TextElem::packed(words));
            }
            if words.len() < piece.len() {
                self.push(SmartQuoteElem::new().with_double(piece.ends_with('"')).pack());
            }
        }
    }

    fn close(&mut self, tag: TagEnd) {
        let Some(closed) = self.open.pop() else { return };
        let body = Content::sequence(closed.children);
        match tag {
            TagEnd::Paragraph => {
                self.top().loose = true;
                self.push(ParElem::new(body).pack());
            }
            TagEnd::Heading(level) => {
                let level = NonZeroUsize::new(level as usize).unwrap_or(NonZeroUsize::MIN);
                self.push(HeadingElem::new(body).with_level(Smart::Custom(level)).pack());
            }
            TagEnd::BlockQuote(_) => self.push(QuoteElem::new(body).with_block(true).pack()),
            TagEnd::CodeBlock => {
                let code = closed.code.unwrap_or_default();
                let code = code.strip_suffix('\n').unwrap_or(&code);
                self.push(RawElem::new(RawContent::Text(code.into())).with_block(true).pack());
            }
            TagEnd::Item => {
                let list = self.top();
                list.loose |= closed.loose;
                list.items.push(body);
            }
            TagEnd::List(true) => {
                let items = closed.items.into_iter().map(|item| Packed::new(EnumItem::new(item))).collect();
                let start = Smart::Custom(closed.start.unwrap_or(1));
                self.push(EnumElem::new(items).with_tight(!closed.loose).with_start(start).pack());
            }
            TagEnd::List(false) => {
                let items = closed.items.into_iter().map(|item| Packed::new(ListItem::new(item))).collect();
                self.push(ListElem::new(items).with_tight(!closed.loose).pack());
            }
            TagEnd::TableCell => self.top().cells.push(TableItem::Cell(Packed::new(TableCell::new(body)))),
            TagEnd::TableHead => self.top().header = closed.cells,
            TagEnd::TableRow => self.top().cells.extend(closed.cells),
            TagEnd::Table => {
                let header = TableChild::Header(Packed::new(TableHeader::new(closed.header)));
                let children = std::iter::once(header).chain(closed.cells.into_iter().map(TableChild::Item)).collect();
                let table = TableElem::new(children)
                    .with_columns(TrackSizings(vec![Sizing::Auto; closed.columns.len()].into()))
                    .with_align(Celled::Array(closed.columns.iter().map(alignment).collect()));
                self.push(table.pack());
            }
            TagEnd::Emphasis => self.push(EmphElem::new(body).pack()),
            TagEnd::Strong => self.push(StrongElem::new(body).pack()),
            TagEnd::Strikethrough => self.push(StrikeElem::new(body).pack()),
            // An image is shown as what it is said to show.
            TagEnd::Link | TagEnd::Image => self.push(match closed.url {
                Some(url) => LinkElem::new(LinkTarget::Dest(Destination::Url(url)), body).pack(),
                None => body,
            }),
            TagEnd::HtmlBlock => self.push(ParElem::new(body).pack()),
            // Of extensions that are not switched on.
            _ => self.push(body),
        }
    }
}

fn opened(tag: Tag<'_>) -> Open {
    match tag {
        Tag::List(start) => Open { start, ..Open::default() },
        Tag::Table(columns) => Open { columns, ..Open::default() },
        Tag::CodeBlock(_) => Open { code: Some(String::new()), ..Open::default() },
        // A bare address.
        Tag::Link { link_type: LinkType::Email, dest_url, .. } => {
            Open { url: harmless(&format!("mailto:{dest_url}").into()), ..Open::default() }
        }
        Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => Open { url: harmless(&dest_url), ..Open::default() },
        _ => Open::default(),
    }
}

fn harmless(url: &CowStr<'_>) -> Option<Url> {
    markdown::is_harmless(url).then(|| Url::new(&**url).ok()).flatten()
}

fn alignment(column: &Column) -> Smart<Alignment> {
    match column {
        Column::None => Smart::Auto,
        Column::Left => Smart::Custom(Alignment::H(HAlignment::Left)),
        Column::Center => Smart::Custom(Alignment::H(HAlignment::Center)),
        Column::Right => Smart::Custom(Alignment::H(HAlignment::Right)),
    }
}

/// Text without what means something to typst's line breaking or nothing to anybody: control characters and the characters that
/// stand for an object.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|&character| matches!(character, '\n' | '\t') || !(character.is_control() || character == '\u{fffc}'))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    /// What is set as text, in order, and the kinds of elements there are.
    fn parts(text: &str) -> (String, Vec<&'static str>) {
        let (mut words, mut kinds) = (String::new(), Vec::new());
        let _: ControlFlow<()> = of("Title", text).traverse(&mut |element| {
            kinds.push(element.elem().name());
            if let Some(text) = element.to_packed::<TextElem>() {
                words.push_str(&text.text);
            } else if let Some(code) = element.to_packed::<RawElem>()
                && let RawContent::Text(code) = &code.text
            {
                words.push_str(code);
            } else if element.is::<SmartQuoteElem>() {
                words.push('"');
            }
            ControlFlow::Continue(())
        });
        kinds.sort_unstable();
        kinds.dedup();
        (words, kinds)
    }

    #[test]
    fn hostile_text_stays_text() {
        for text in [
            r#"#read("/etc/passwd")"#,
            r#"#import "@preview/x:1.0.0": x"#,
            "#{ let x = 1 }",
            "$ x^2 $",
            "@reference <label>",
            "= no heading",
            "/ no: term",
            "a\u{2028}b // c /* d */",
            "#sys.inputs.body",
        ] {
            let (words, kinds) = parts(text);
            assert_eq!(words, text);
            assert!(
                kinds.iter().all(|kind| ["sequence", "title", "par", "text", "smartquote"].contains(kind)),
                "{text}: {kinds:?}"
            );
        }
        assert_eq!(parts(r"\#x \\ \$").0, r"#x \ $");
        for ticks in 1..40 {
            let fence = "`".repeat(ticks);
            assert_eq!(parts(&format!("{fence} #x {fence}")).0, "#x");
            assert_eq!(parts(&format!("~~~{fence}typ\n{fence}\n#x\n~~~")).0, format!("{fence}\n#x"));
        }
    }

    #[test]
    fn code_has_no_language_that_would_be_parsed() {
        let mut languages = 0;
        let _: ControlFlow<()> = of("T", "```typst\n#read(\"x\")\n```\n").traverse(&mut |element| {
            if let Some(code) = element.to_packed::<RawElem>() {
                languages += usize::from(code.lang.as_option().is_some());
            }
            ControlFlow::Continue(())
        });
        assert_eq!(languages, 0);
    }

    #[test]
    fn every_element_of_markdown_has_its_own_of_typst() {
        let text =
            "# H\n\na *b* **c** ~~d~~ `e` [f](https://g.h)  \ni\n\n> j\n\n- k\n\n1. l\n\n|m|\n|-|\n|n|\n\n```\no\n```\n\n---\n";
        let (words, kinds) = parts(text);
        assert_eq!(words, "Ha b c d e fijklmno");
        for kind in
            ["heading", "emph", "strong", "strike", "raw", "link", "linebreak", "quote", "list", "enum", "table", "divider"]
        {
            assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
        }
    }

    #[test]
    fn images_are_what_they_show_and_markup_is_text() {
        let (words, kinds) = parts("![a photo](file:///etc/passwd) <img src=x>\n\n<script>alert(1)</script>\n");
        assert_eq!(words.trim_end(), "a photo <img src=x><script>alert(1)</script>");
        assert!(!kinds.contains(&"image") && !kinds.contains(&"link"), "{kinds:?}");
    }

    #[test]
    fn an_address_in_angle_brackets_leads_to_mail() {
        for text in ["<a@b.c>", "<mailto:a@b.c>", "[a](mailto:a@b.c)"] {
            let mut targets = Vec::new();
            let _: ControlFlow<()> = of("Title", text).traverse(&mut |element| {
                if let Some(link) = element.to_packed::<LinkElem>()
                    && let LinkTarget::Dest(Destination::Url(url)) = &link.dest
                {
                    targets.push(url.to_string());
                }
                ControlFlow::Continue(())
            });
            assert_eq!(targets, ["mailto:a@b.c"], "{text}");
        }
    }

    #[test]
    fn a_title_is_not_said_twice() {
        assert_eq!(parts("# Title\n\nx").0, "x");
        assert_eq!(parts("# Other\n\nx").0, "Otherx");
    }
}
