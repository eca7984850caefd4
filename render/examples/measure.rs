//! What rendering costs: `cargo run --release -p toolgate-render --example measure`.
//!
//! Ten pages, the worst documents that the bounds let through, how soon rendering ends when it is told to, and what a thousand
//! documents leave behind in memory (Linux).

use std::{fs, hint::black_box, time::Duration, time::Instant};

use serde_json::{Map, Value, json};
use toolgate_render::{Document, Error, Format, Rendered, render};

fn main() {
    let report = report(9);
    println!("ten pages");
    let mut times: Vec<_> = (0..50)
        .map(|number| {
            let title = format!("Report {number}");
            let began = Instant::now();
            let pages = black_box(pdf(&title, &report, None)).map(|rendered| rendered.pages);
            (began.elapsed(), pages)
        })
        .collect();
    println!("  first {:>6} ms, {:?} pages", times[0].0.as_millis(), times[0].1);
    times.sort_by_key(|(took, _)| *took);
    println!("  p50   {:>6} ms\n  p95   {:>6} ms", times[25].0.as_millis(), times[47].0.as_millis());

    println!("hostile documents");
    for (name, markdown, data) in hostile() {
        for format in [Format::Html, Format::Pdf] {
            let began = Instant::now();
            let document = Document { title: "T", markdown: &markdown, data: data.as_ref(), locale: Some("en") };
            let result = render(&document, format, &|| false).map(|rendered| (rendered.pages, rendered.bytes.len()));
            let took = began.elapsed();
            let stopped = until_stopped(&document, format, took / 3);
            println!(
                "  {name:<28} {format:?} {:>6} ms, ends {:>4} ms after it is told, peak {:>4} MiB: {result:?}",
                took.as_millis(),
                stopped.as_millis(),
                memory("VmHWM")
            );
            let _ = fs::write("/proc/self/clear_refs", "5");
        }
    }

    println!("memory over 1,000 documents");
    for round in 0..=10 {
        println!("  {:>5} documents: {} MiB", round * 100, memory("VmRSS"));
        for number in 0..if round < 10 { 100 } else { 0 } {
            let markdown = format!("# Document {round}-{number}\n\n{}", &report[..6000]);
            let _ = black_box(pdf(&format!("T {round} {number}"), &markdown, None));
        }
    }
}

fn pdf(title: &str, markdown: &str, data: Option<&Map<String, Value>>) -> Result<Rendered, Error> {
    render(&Document { title, markdown, data, locale: Some("en-GB") }, Format::Pdf, &|| false)
}

/// How long rendering goes on after `after`, when it is told to stop.
fn until_stopped(document: &Document<'_>, format: Format, after: Duration) -> Duration {
    let began = Instant::now();
    let _ = black_box(render(document, format, &|| began.elapsed() >= after));
    began.elapsed().saturating_sub(after)
}

/// A name, a text, and data where the text is a template.
type Case = (&'static str, String, Option<Map<String, Value>>);

fn hostile() -> Vec<Case> {
    let nested = |marker: &str, depth: usize| -> String {
        (0..depth).map(|level| format!("{}{marker} x\n", "  ".repeat(level))).collect()
    };
    let quotes = |depth: usize| format!("{}x\n", "> ".repeat(depth));
    let table = |rows: usize, columns: usize| {
        let row = |cell: &str| format!("|{}\n", format!("{cell}|").repeat(columns));
        format!("{}{}{}", row("h"), row("-"), row("x y").repeat(rows))
    };
    let data = json!({"rows": vec![json!({"a": "some words", "b": 1}); 5_000]});
    let rows = "| a | b |\n|---|---|\n{% for r in rows %}| {{ r.a }} | {{ r.b }} |\n{% endfor %}";
    let doubling = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    let runaway = "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}";
    let paragraphs = |paragraph: String, bytes: usize| (paragraph.clone() + "\n\n").repeat(bytes / (paragraph.len() + 2));
    let code = |line: &str, lines: usize| format!("```\n{}```\n\n", (line.to_owned() + "\n").repeat(lines));
    // Each as much as one paragraph may have.
    let emphasis = "*a **b** c* ".repeat(220);
    let opened = "*a _b ".repeat(480);
    let quotation = "\"'".repeat(490);
    let scripts = "漢字العربية😀".repeat(32 * 1024 / 28 - 32);
    let links = "[a](http://b.c) ".repeat(490);
    const MIB: usize = 1024 * 1024 - 64;
    vec![
        ("lists, 500 deep", nested("-", 500), None),
        ("lists, as deep as may be", nested("-", 8), None),
        ("quotes, 10,000 deep", quotes(10_000), None),
        ("deep quotes", (quotes(14) + "\n").repeat(3_000), None),
        ("table of 100,000 cells", table(10_000, 10), None),
        ("table of 20,000 cells", table(1_999, 10), None),
        ("table of 64 columns", table(311, 64), None),
        ("200 KiB of #", "#".repeat(200 * 1024), None),
        ("headings", "# x\n".repeat(33_000), None),
        ("1 MiB in one word", "x".repeat(MIB), None),
        ("paragraphs of one word", paragraphs("x".to_owned(), 99_000), None),
        ("1 MiB of paragraphs", paragraphs("some words ".repeat(100), MIB), None),
        ("1 MiB of long paragraphs", paragraphs("some words ".repeat(2_970), MIB), None),
        ("1 MiB of long words", paragraphs("x".repeat(32_000), MIB), None),
        ("a long block of code", code("some code", 2_000), None),
        ("1 MiB of code", code("some code", 2_000).repeat(52), None),
        ("long lines of code", code(&"x ".repeat(500), 1_000), None),
        ("emphasis", paragraphs(emphasis, 140_000), None),
        ("opened emphasis", paragraphs(opened, 120_000), None),
        ("quotation marks", paragraphs(quotation, MIB), None),
        ("other scripts", paragraphs(scripts, MIB), None),
        ("links", paragraphs(links, 380_000), None),
        ("256 KiB of brackets", "[".repeat(256 * 1024), None),
        ("256 KiB of backticks", "`a``b```c ".repeat(256 * 1024 / 10), None),
        ("5,000 rows by a template", rows.to_owned(), data.as_object().cloned()),
        ("a runaway template", runaway.to_owned(), Some(Map::new())),
        ("a doubling template", doubling.to_owned(), Some(Map::new())),
    ]
}

/// About this many pages of headings, tables, lists, code and quotes.
fn report(sections: usize) -> String {
    let words = "The gateway served more calls than in any quarter before, and the median answer became faster although the number of \
                 tenants doubled. Operators noticed few incidents, and each of them was explained within a day. ";
    let section = |number: usize| {
        let rows: String = (1..9).map(|row| format!("| Region {row} | {} | {} |\n", row * 1234 + number, row * 7)).collect();
        format!(
            "## {number}. Part {number}\n\n{words}{words}\n\n### Figures\n\n| Region | Calls | Failed |\n|:---|---:|---:|\n{rows}\n\
             > \"Quality is never an accident,\" they say; it is 'always' the result of effort. {words}\n\n- a point with `code`\n- \
             another with a [link](https://example.com)\n  - and a nested one\n\n1. One\n2. Two\n\n```rust\nfn main() {{\n    \
             println!(\"{number}\");\n}}\n```\n\n{words}{words}\n\n"
        )
    };
    (1..=sections).map(section).collect()
}

/// In MiB.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().nth(1)?.parse::<u64>().ok());
    line.unwrap_or_default() / 1024
}
