//! Documents as a caller of the crate gets them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fmt::Write,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use toolgate_render::{Document, Error, Format, MAX_DEPTH, Rendered, render};

const REPORT: &str =
    "# Report\n\nSome *words*, \"quoted\".\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n- x\n  1. y\n\n```\ncode\n```\n\n> z\n";

fn document<'a>(markdown: &'a str, locale: Option<&'a str>) -> Document<'a> {
    Document { title: "Title", markdown, data: None, locale }
}

fn pdf(markdown: &str) -> Rendered {
    render(&document(markdown, Some("en-GB")), Format::Pdf, &|| false).unwrap()
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn equal_input_gives_equal_bytes_in_any_process() {
    const CHILD: &str = "TOOLGATE_RENDER_TEST_CHILD";
    let mut bytes = String::from("bytes:");
    for format in [Format::Html, Format::Pdf] {
        let rendered = render(&document(REPORT, Some("id-ID")), format, &|| false).unwrap();
        rendered.bytes.iter().for_each(|byte| write!(bytes, "{byte:02x}").unwrap());
    }
    if std::env::var_os(CHILD).is_some() {
        println!("\n{bytes}");
        return;
    }
    let name = "equal_input_gives_equal_bytes_in_any_process";
    let child = Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
    let output = String::from_utf8(child.unwrap().stdout).unwrap();
    assert!(output.lines().any(|line| line == bytes), "another process made other bytes");
}

#[test]
fn a_pdf_has_its_structure() {
    let rendered = pdf(REPORT);
    assert_eq!(rendered.pages, Some(1));
    let bytes = rendered.bytes;
    assert!(bytes.starts_with(b"%PDF-1.7\n") && bytes.trim_ascii_end().ends_with(b"%%EOF"));
    let tail = String::from_utf8_lossy(&bytes[bytes.len() - 60..]).into_owned();
    let mut words = tail.split_ascii_whitespace().skip_while(|word| *word != "startxref").skip(1);
    let cross_references: usize = words.next().unwrap().parse().unwrap();
    let rest = String::from_utf8_lossy(&bytes[cross_references..]);
    assert!(rest.starts_with("xref") || rest.contains("/Type/XRef") || rest.contains("/Type /XRef"), "{cross_references}");
    assert!(!contains(&bytes, "CreationDate") && !contains(&bytes, "ModDate"), "a date would differ from day to day");
}

#[test]
fn a_long_text_has_several_pages() {
    let three = "A paragraph of a few words that is there to fill pages.\n\n".repeat(100);
    assert_eq!(pdf(&three).pages, Some(3));
}

#[test]
fn quotation_marks_follow_the_language() {
    let of = |locale| render(&document("\"x\"", locale), Format::Pdf, &|| false).unwrap().bytes;
    assert_ne!(of(Some("de-DE")), of(Some("de-CH")));
    assert_ne!(of(Some("de-DE")), of(Some("en-GB")));
    assert_eq!(of(Some("x")), of(None), "a tag that nobody knows is no tag");
}

#[test]
fn the_deepest_document_is_set() {
    // The paragraph is a level of its own, and so are a list and its item.
    let quotes = format!("{}x", "> ".repeat(MAX_DEPTH - 1));
    let depth = MAX_DEPTH / 2;
    let bullets: String = (0..depth).map(|level| format!("{}- x\n", "  ".repeat(level))).collect();
    let numbers: String = (0..depth).map(|level| format!("{}1. x\n", "   ".repeat(level))).collect();
    let mixed = format!("{}*a **b ~~c~~***", "> - ".repeat(MAX_DEPTH / 3 - 1));
    for text in [quotes, bullets, numbers, mixed] {
        assert_eq!(render(&document(&text, None), Format::Pdf, &|| false).map(|rendered| rendered.pages), Ok(Some(1)), "{text}");
    }
}

#[test]
fn whatever_is_written_makes_a_document() {
    for text in [
        "",
        "\u{0}\u{1}\u{7f}\u{fffc}\u{feff}\u{202e}\u{200b}",
        "漢字 العربية हिन्दी ไทย 😀 👨‍👩‍👧",
        "````````````````",
        "|a|b|\n|-|-|\n|only one|\n|1|2|3|\n",
        "||\n|-|\n",
        "- \n- \n",
        "0. x\n",
        "999999999. x\n1. y\n",
        "#\n\n##\n",
        "[](http://a.b) [x](http://) ![](x)",
        "```\n\n```\n\n``` typst\n#read(\"x\")",
        "\"\"\"''' it's 5'10\"",
        "&#0; &#xfffc; &copy; &#x110000;",
        "a\\\nb  \nc\\",
    ] {
        for format in [Format::Html, Format::Pdf] {
            let rendered = render(&document(text, Some("en")), format, &|| false);
            assert!(rendered.is_ok(), "{text:?} as {format:?}: {:?}", rendered.err());
        }
    }
}

#[test]
fn rendering_ends_when_it_is_told_to_and_nothing_is_left_behind() {
    let text = "some words and some more of them\n\n".repeat(2_000);
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) > 500;
    assert_eq!(render(&document(&text, None), Format::Pdf, &stop), Err(Error::Stopped));
    assert_eq!(render(&document(REPORT, None), Format::Pdf, &|| true), Err(Error::Stopped));
    assert_eq!(pdf(REPORT), pdf(REPORT));
}
