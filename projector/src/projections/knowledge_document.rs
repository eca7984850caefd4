use std::collections::HashSet;

use sqlx::PgConnection;
use toolgate_events::tools::{KnowledgeUpsertInput, KnowledgeUpsertOutput, search_config};

use super::{Outcome, parked_event::Reasons, write};

pub const TOOL: &str = "knowledge.upsert";

/// The knowledge base: the newest outcome for a document wins, whatever order they are projected in. What searches read,
/// `knowledge_index`, follows by a trigger: see migrations/0008_knowledge_index.sql.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    let mut documents: Vec<Upserted<'_>> = Vec::new();
    let mut names = HashSet::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        let input = match outcome.parts::<KnowledgeUpsertInput, KnowledgeUpsertOutput>() {
            Ok((input, _)) => input,
            Err(reason) => {
                parked.add(outcome.at, reason);
                continue;
            }
        };
        // One statement writes a document once.
        if !names.insert((outcome.at.tenant_id, input.document_id.clone())) {
            upsert(transaction, &std::mem::take(&mut documents), parked).await?;
            names = HashSet::from([(outcome.at.tenant_id, input.document_id.clone())]);
        }
        documents.push((outcome, input));
    }
    upsert(transaction, &documents, parked).await
}

type Upserted<'a> = (&'a Outcome<'a>, KnowledgeUpsertInput);

async fn upsert(transaction: &mut PgConnection, documents: &[Upserted<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    let statement = |documents: &[Upserted<'_>]| {
        macro_rules! column {
            ($value:expr) => {
                documents.iter().map($value).collect::<Vec<_>>()
            };
        }
        sqlx::query(
            "insert into knowledge_document
                 (tenant_id, document_id, call_id, title, content, locale, metadata, search_config, updated_at, position,
                  source)
             select a, b, c, d, e, f, g, h::regconfig, i, j, k
             from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[],
                 $9::timestamptz[], $10::bigint[], $11::text[]) as n (a, b, c, d, e, f, g, h, i, j, k)
             on conflict (tenant_id, document_id) do update
             set call_id = excluded.call_id, title = excluded.title, content = excluded.content, locale = excluded.locale,
                 metadata = excluded.metadata, search_config = excluded.search_config, updated_at = excluded.updated_at,
                 position = excluded.position, source = excluded.source
             where knowledge_document.position < excluded.position",
        )
        .bind(column!(|(outcome, _)| outcome.at.tenant_id.0))
        .bind(column!(|(_, input)| input.document_id.clone()))
        .bind(column!(|(outcome, _)| outcome.at.row.aggregate_id))
        .bind(column!(|(_, input)| input.title.clone()))
        .bind(column!(|(_, input)| input.content.clone()))
        .bind(column!(|(_, input)| input.locale.clone()))
        .bind(column!(|(_, input)| serde_json::Value::Object(input.metadata.clone().unwrap_or_default())))
        .bind(column!(|(_, input)| search_config(input.locale.as_deref())))
        .bind(column!(|(outcome, _)| outcome.at.occurred_at()))
        .bind(column!(|(outcome, _)| outcome.position()))
        .bind(column!(|(_, input)| input.source.clone()))
    };
    write(transaction, parked, documents, |(outcome, _)| outcome.at, statement).await
}
