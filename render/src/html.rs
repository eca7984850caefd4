//! Markdown to a self-contained HTML page: no scripts, no foreign markup, nothing loaded from elsewhere.

use pulldown_cmark::{CowStr, Event, LinkType, Tag, TagEnd, html};

use crate::markdown;

pub(crate) fn render(title: &str, text: &str, locale: Option<&str>) -> String {
    let mut page = String::with_capacity(text.len() * 2 + 1024);
    page.push_str("<!doctype html>\n<html");
    if let Some(locale) = locale {
        page.push_str(" lang=\"");
        page.push_str(&escape(locale));
        page.push('"');
    }
    page.push_str(">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    page.push_str(&escape(title));
    page.push_str("</title>\n<style>\n");
    page.push_str(include_str!("document.css"));
    page.push_str("</style>\n</head>\n<body>\n");
    html::push_html(&mut page, markdown::parse(text).map(tame));
    page.push_str("</body>\n</html>\n");
    page
}

/// Markup in the source becomes text, links lead to the web or to mail only, and images become links: opening the page must
/// fetch nothing.
fn tame(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(markup) | Event::InlineHtml(markup) => Event::Text(markup),
        // A bare address, which gets its scheme when it is written.
        link @ Event::Start(Tag::Link { link_type: LinkType::Email, .. }) => link,
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: harmless(dest_url), title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: harmless(dest_url), title, id })
        }
        Event::End(TagEnd::Image) => Event::End(TagEnd::Link),
        other => other,
    }
}

fn harmless(url: CowStr<'_>) -> CowStr<'_> {
    if markdown::is_harmless(&url) || url.starts_with('#') { url } else { CowStr::Borrowed("#") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_markup_scripts_and_images_do_not_come_through() {
        let source =
            "<script>x</script>\n\n<b onclick=x>b</b> [a](javascript:x) [b](https://example.com) ![i](https://example.com/i.png)";
        let page = render("</title><script>", source, Some("\"><script>"));
        for bad in ["<script", "<b ", "javascript:", "<img"] {
            assert!(!page.contains(bad), "{bad} in {page}");
        }
        assert!(page.contains("https://example.com"));
    }

    #[test]
    fn an_address_in_angle_brackets_leads_to_mail() {
        for source in ["<a@b.c>", "<mailto:a@b.c>", "[a](mailto:a@b.c)"] {
            let page = render("T", source, None);
            assert!(page.contains("href=\"mailto:a@b.c\""), "{source}: {page}");
        }
    }

    #[test]
    fn the_page_says_what_language_it_is_in() {
        assert!(render("T", "x", Some("id-ID")).contains("<html lang=\"id-ID\">"));
        assert!(render("T", "x", None).contains("<html>"));
    }
}
