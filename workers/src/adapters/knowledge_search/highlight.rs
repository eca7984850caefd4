/// Marks around a match: private-use characters, which are taken out of a document's text before.
const MATCH_START: char = '\u{e000}';
const MATCH_END: char = '\u{e001}';

/// What a document's text must not hold, lest it mark what was not found.
pub fn marks() -> String {
    String::from_iter([MATCH_START, MATCH_END])
}

/// What PostgreSQL is told about passages.
pub fn options() -> String {
    format!("StartSel={MATCH_START}, StopSel={MATCH_END}, MaxWords=40, MinWords=15, MaxFragments=2")
}

/// The passage as HTML: everything from the document escaped, only our own marks as tags.
pub fn html(headline: &str) -> String {
    let mut html = String::with_capacity(headline.len() + 32);
    for character in headline.chars() {
        match character {
            MATCH_START => html.push_str("<mark>"),
            MATCH_END => html.push_str("</mark>"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_marks_become_tags() {
        assert_eq!(html("\u{e000}refund\u{e001} <script>&\"'"), "<mark>refund</mark> &lt;script&gt;&amp;&quot;&#39;");
    }
}
