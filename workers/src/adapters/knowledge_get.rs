use serde_json::Value;
use toolgate_events::tools::{KnowledgeGetInput, KnowledgeGetOutput};
use toolgate_security::TenantTx;

use super::{Call, ToolError, answer};
use crate::Environment;

type Row = (String, String, Option<String>, Value);

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: KnowledgeGetInput = call.arguments()?;
    let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
    let row: Option<Row> =
        sqlx::query_as("select title, content, locale, metadata from knowledge_document where document_id = $1")
            .bind(&input.document_id)
            .fetch_optional(&mut *transaction)
            .await?;
    // Nothing was written: the connection goes back, and its transaction ends, after the answer.
    drop(transaction);
    let (title, content, locale, metadata) = row.ok_or(ToolError::NotFound("the knowledge base has no such document"))?;
    let metadata = metadata.as_object().cloned().unwrap_or_default();
    answer(&KnowledgeGetOutput { document_id: input.document_id, title, content, locale, metadata })
}
