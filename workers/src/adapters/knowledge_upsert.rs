use serde_json::Value;
use sha2::{Digest, Sha256};
use toolgate_events::{
    canonical,
    tools::{KnowledgeUpsertInput, KnowledgeUpsertOutput},
};

use super::{Call, ToolError, answer};
use crate::Environment;

/// The document is a projection of this outcome: recording it is the whole effect.
pub async fn run(call: &Call, _: &Environment) -> Result<Value, ToolError> {
    let input: KnowledgeUpsertInput = call.arguments()?;
    answer(&KnowledgeUpsertOutput {
        content_sha256: canonical::hex(&Sha256::digest(input.content.as_bytes())),
        document_id: input.document_id,
    })
}
