//! Markdown to a self-contained HTML page: no scripts, no foreign markup, nothing loaded from elsewhere.

use std::io::{self, Write};

use minijinja::Environment;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};
use serde_json::{Map, Value};

/// Largest page, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Template instructions before a runaway loop is stopped.
const MAX_FUEL: u64 = 1_000_000;

/// Renders `markdown`, filled in from `data` first when there is any.
///
/// # Errors
/// What is wrong with the template, or that the page would be too large.
pub fn render_html(title: &str, markdown: &str, data: Option<&Map<String, Value>>) -> Result<String, String> {
    let filled = match data {
        Some(data) => fill_in(markdown, data)?,
        None => markdown.to_owned(),
    };
    let mut page = String::with_capacity(filled.len() * 2 + 1024);
    page.push_str("<!doctype html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>");
    page.push_str(&escape(title));
    page.push_str("</title>\n<style>\n");
    page.push_str(include_str!("document.css"));
    page.push_str("</style>\n</head>\n<body>\n");
    let parser = Parser::new_ext(&filled, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS);
    html::push_html(&mut page, parser.map(tame));
    page.push_str("</body>\n</html>\n");
    if page.len() > MAX_BYTES {
        return Err(too_large());
    }
    Ok(page)
}

fn fill_in(template: &str, data: &Map<String, Value>) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(MAX_FUEL));
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let mut out = Bounded(Vec::new());
    let template = environment.template_from_str(template).map_err(|error| format!("the template is not valid: {error:#}"))?;
    template
        .render_captured_to(minijinja::value::Serde(data), &mut out)
        .map_err(|error| format!("the template cannot be filled in: {error:#}"))?;
    String::from_utf8(out.0).map_err(|error| error.to_string())
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::other(too_large()));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large() -> String {
    format!("the document would be larger than {MAX_BYTES} bytes")
}

/// Markup in the source becomes text, links lead to the web or to mail only, and images become links: opening the page must
/// fetch nothing.
fn tame(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(markup) | Event::InlineHtml(markup) => Event::Text(markup),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: harmless(dest_url), title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: harmless(dest_url), title, id })
        }
        Event::End(pulldown_cmark::TagEnd::Image) => Event::End(pulldown_cmark::TagEnd::Link),
        other => other,
    }
}

fn harmless(url: CowStr<'_>) -> CowStr<'_> {
    let allowed = ["http://", "https://", "mailto:", "#"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if allowed { url } else { CowStr::Borrowed("#") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn equal_input_gives_equal_bytes() {
        let render = || render_html("T", "# Hi\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", None).unwrap();
        assert_eq!(render(), render());
        assert!(render().contains("<h1>Hi</h1>") && render().contains("<table>"));
    }

    #[test]
    fn a_template_is_filled_in_and_its_values_stay_text() {
        let page = render_html("T", "Hello **{{ name }}**", Some(&data(json!({"name": "<script>x</script>"})))).unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
    }

    #[test]
    fn foreign_markup_scripts_and_images_do_not_come_through() {
        let source =
            "<script>x</script>\n\n<b onclick=x>b</b> [a](javascript:x) [b](https://example.com) ![i](https://example.com/i.png)";
        let page = render_html("</title><script>", source, None).unwrap();
        for bad in ["<script", "<b ", "javascript:", "<img"] {
            assert!(!page.contains(bad), "{bad} in {page}");
        }
        assert!(page.contains("https://example.com"));
    }

    #[test]
    fn a_bad_or_runaway_template_is_an_error() {
        let none = data(json!({}));
        assert!(render_html("T", "{{ name", Some(&none)).unwrap_err().contains("template"));
        assert!(render_html("T", "{{ missing }}", Some(&none)).is_err());
        let runaway = "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}";
        assert!(render_html("T", runaway, Some(&none)).is_err());
    }

    #[test]
    fn without_data_braces_are_just_text() {
        assert!(render_html("T", "{{ name }}", None).unwrap().contains("{{ name }}"));
    }
}
