use serde_json::Value;
use sqlx::{FromRow, Row};
use toolgate_events::tools::{KnowledgeGetInput, KnowledgeGetOutput};
use toolgate_security::TenantTx;

use super::{Call, ToolError, answer, knowledge_reference};
use crate::Environment;

const GET: &str = concat!(
    "select metadata, length(content) as characters, substr(content, $2, $3) as part, ",
    knowledge_reference::columns!(),
    " from knowledge_document where document_id = $1"
);

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: KnowledgeGetInput = call.arguments()?;
    // PostgreSQL counts from 1.
    let from = i32::try_from(input.offset).unwrap_or(i32::MAX).saturating_add(1);
    let length = input.max_characters.and_then(|characters| i32::try_from(characters).ok()).unwrap_or(i32::MAX - from);
    let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
    let row = sqlx::query(GET).bind(&input.document_id).bind(from).bind(length).fetch_optional(&mut *transaction).await?;
    // Nothing was written: the connection goes back, and its transaction ends, after the answer.
    drop(transaction);
    let row = row.ok_or(ToolError::NotFound("the knowledge base has no such document"))?;
    let metadata: Value = row.try_get("metadata")?;
    let content: String = row.try_get("part")?;
    let characters = u32::try_from(row.try_get::<i32, _>("characters")?).unwrap_or(0);
    let end = input.offset.saturating_add(u32::try_from(content.chars().count()).unwrap_or(u32::MAX));
    answer(&KnowledgeGetOutput {
        reference: knowledge_reference::Row::from_row(&row)?.into(),
        next_offset: (end < characters).then_some(end),
        content,
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        characters,
    })
}
