use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Contract, FIRST_VERSION, SideEffects, lane, schema_of};

/// Arguments of `knowledge.get`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeGetInput {
    #[schemars(length(min = 1, max = 255))]
    pub document_id: String,
}

/// Result of `knowledge.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeGetOutput {
    pub document_id: String,
    pub title: String,
    pub content: String,
    /// Language of the text (BCP 47).
    pub locale: Option<String>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

pub(super) fn contract() -> Contract {
    Contract {
        name: "knowledge.get",
        version: FIRST_VERSION,
        description: "Reads one document of the tenant's knowledge base.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("search"),
        timeout_ms: 10_000,
        max_attempts: 3,
        input_schema: schema_of::<KnowledgeGetInput>(),
        output_schema: schema_of::<KnowledgeGetOutput>(),
        examples: vec![json!({"document_id": "faq-1"})],
    }
}
