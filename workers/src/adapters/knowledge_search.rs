use serde_json::Value;
use toolgate_events::tools::{KnowledgeHit, KnowledgeSearchInput, KnowledgeSearchOutput, SEARCH_CONFIGS, search_config};
use toolgate_security::TenantTx;

use super::{Call, ToolError, answer};
use crate::Environment;

/// Marks around a match that no document text can hold after escaping: private-use characters.
const MATCH_START: char = '\u{e000}';
const MATCH_END: char = '\u{e001}';

/// A query is read once per language configuration and meets the documents of that configuration, so that each document is
/// searched in its own language. Documents in the caller's language count double.
const SEARCH: &str = r"
    with query as (select config, websearch_to_tsquery(config, $1) as words from unnest($2::regconfig[]) as config),
    hit as (
        select d.document_id, d.title, d.content, d.search_config, q.words, ts_rank_cd(d.search_vector, q.words) * case when q.config = $7::regconfig then 2 else 1 end as score
        from query q join knowledge_document d on d.search_config = q.config and d.search_vector @@ q.words
        where ($3::text is null or d.locale = $3 or d.locale like $3 || '-%')
          and ($4::jsonb is null or d.metadata @> $4)
        order by score desc, d.document_id
        limit $5
    )
    select document_id, title, score::float8,
           ts_headline(search_config, content, words, $6)
    from hit order by score desc, document_id";

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: KnowledgeSearchInput = call.arguments()?;
    let filters = input.filters.unwrap_or_default();
    let options = format!("StartSel={MATCH_START}, StopSel={MATCH_END}, MaxWords=40, MinWords=15, MaxFragments=2");
    let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
    let rows: Vec<(String, String, f64, String)> = sqlx::query_as(SEARCH)
        .bind(&input.query)
        .bind(SEARCH_CONFIGS)
        .bind(filters.locale)
        .bind(filters.metadata.map(Value::Object))
        .bind(i64::from(input.top_k))
        .bind(options)
        .bind(call.options.locale.as_deref().map(|locale| search_config(Some(locale))))
        .fetch_all(&mut *transaction)
        .await?;
    // Nothing was written: the connection goes back, and its transaction ends, after the answer.
    drop(transaction);
    let hits = rows
        .into_iter()
        .map(|(document_id, title, score, headline)| KnowledgeHit { document_id, title, score, highlight: highlight(&headline) })
        .collect();
    answer(&KnowledgeSearchOutput { hits })
}

/// The passage as HTML: everything from the document escaped, only our own marks as tags.
fn highlight(headline: &str) -> String {
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
        assert_eq!(highlight("\u{e000}refund\u{e001} <script>&\"'"), "<mark>refund</mark> &lt;script&gt;&amp;&quot;&#39;");
    }
}
