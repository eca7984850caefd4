use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cache, Contract, FIRST_VERSION, Retry, SideEffects, lane};

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

pub(super) fn define() -> Contract {
    Contract {
        description: "Reads one document of the tenant's knowledge base.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("search"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        // What was just written is found, unless the caller says that older will do.
        cache: Some(Cache { default_freshness_seconds: 0, max_freshness_seconds: 3_600, stale_seconds: 0 }),
        examples: vec![json!({"document_id": "faq-1"})],
        ..Contract::of::<KnowledgeGetInput, KnowledgeGetOutput>("knowledge.get", FIRST_VERSION)
    }
}
