mod candidates;
mod cursor;
mod highlight;

use candidates::{Candidate, Search};
use cursor::Cursor;
use serde_json::Value;
use sqlx::{FromRow, Row};
use toolgate_events::tools::{KnowledgeHit, KnowledgeSearchInput, KnowledgeSearchOutput, SEARCH_CONFIGS, search_config};
use toolgate_security::TenantTx;

use super::{Call, ToolError, answer, knowledge_reference};
use crate::Environment;

/// Of the page alone: a passage costs as much as reading the document.
const PAGE: &str = concat!(
    "select ts_headline(search_config, translate(content, $4, ''), websearch_to_tsquery(search_config, $2), $3) as headline, ",
    knowledge_reference::columns!(),
    " from knowledge_document where document_id = any($1)"
);

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: KnowledgeSearchInput = call.arguments()?;
    let locale = call.options.locale.as_deref();
    let fingerprint = cursor::fingerprint(&input, locale)?;
    let cursor = input.cursor.as_deref().map(|cursor| Cursor::open(cursor, &fingerprint)).transpose()?;
    let filters = input.filters.unwrap_or_default();
    let preferred = locale.map(|locale| search_config(Some(locale)));
    let up_to = cursor.as_ref().map(|cursor| cursor.newest);

    let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
    let search = Search::prepare(&mut transaction, &input.query, &filters, SEARCH_CONFIGS, preferred, up_to).await?;
    let found = search.run(&mut transaction).await?;
    let mut rest = found.candidates.iter().filter(|candidate| cursor.as_ref().is_none_or(|cursor| cursor.is_before(candidate)));
    let page: Vec<_> = rest.by_ref().take(input.top_k as usize).collect();
    let hits = hits(&mut transaction, &page, &input.query).await?;
    // Nothing was written: the connection goes back, and its transaction ends, after the answer.
    drop(transaction);
    let next_cursor = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some(Cursor::after(last, search.newest, fingerprint).seal()?),
        _ => None,
    };
    answer(&KnowledgeSearchOutput { hits, is_complete: found.is_complete, next_cursor })
}

/// The page's documents. One that was replaced since the candidates were read is left out.
async fn hits(transaction: &mut TenantTx, page: &[&Candidate], query: &str) -> Result<Vec<KnowledgeHit>, ToolError> {
    let names: Vec<_> = page.iter().map(|candidate| candidate.document_id.as_str()).collect();
    let page_query = sqlx::query(PAGE).bind(&names).bind(query).bind(highlight::options()).bind(highlight::marks());
    let rows = page_query.fetch_all(&mut **transaction).await?;
    let mut hits = Vec::with_capacity(rows.len());
    for row in rows {
        let (name, position): (&str, i64) = (row.try_get("document_id")?, row.try_get("position")?);
        let Some(rank) = page.iter().position(|candidate| candidate.document_id == name && candidate.position == position) else {
            continue;
        };
        let reference = knowledge_reference::Row::from_row(&row)?.into();
        let highlight = highlight::html(row.try_get("headline")?);
        hits.push((rank, KnowledgeHit { reference, score: page[rank].score, highlight }));
    }
    hits.sort_by_key(|(rank, _)| *rank);
    Ok(hits.into_iter().map(|(_, hit)| hit).collect())
}
