use sqlx::PgConnection;
use toolgate_events::tools::{KnowledgeUpsertInput, KnowledgeUpsertOutput, search_config};

use super::{Outcome, guarded, parked_event::Reasons};

pub const TOOL: &str = "knowledge.upsert";

/// The knowledge base: the newest outcome for a document wins, whatever order they are projected in. What searches read,
/// `knowledge_index`, follows by a trigger: see migrations/0008_knowledge_index.sql.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        let input = match outcome.parts::<KnowledgeUpsertInput, KnowledgeUpsertOutput>() {
            Ok((input, _)) => input,
            Err(reason) => {
                parked.add(outcome.at, reason);
                continue;
            }
        };
        let statement = sqlx::query(
            "insert into knowledge_document
                 (tenant_id, document_id, call_id, title, content, locale, metadata, search_config, updated_at, position,
                  source)
             values ($1, $2, $3, $4, $5, $6, $7, $8::regconfig, $9, $10, $11)
             on conflict (tenant_id, document_id) do update
             set call_id = excluded.call_id, title = excluded.title, content = excluded.content, locale = excluded.locale,
                 metadata = excluded.metadata, search_config = excluded.search_config, updated_at = excluded.updated_at,
                 position = excluded.position, source = excluded.source
             where knowledge_document.position < excluded.position",
        )
        .bind(outcome.at.tenant_id.0)
        .bind(&input.document_id)
        .bind(outcome.at.row.aggregate_id)
        .bind(&input.title)
        .bind(&input.content)
        .bind(&input.locale)
        .bind(serde_json::Value::Object(input.metadata.unwrap_or_default()))
        .bind(search_config(input.locale.as_deref()))
        .bind(outcome.at.occurred_at())
        .bind(outcome.position())
        .bind(&input.source);
        guarded(transaction, outcome.at, parked, statement).await?;
    }
    Ok(())
}
