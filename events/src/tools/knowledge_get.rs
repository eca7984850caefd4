use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cache, Contract, FIRST_VERSION, KnowledgeReference, Retry, SideEffects, lane};

/// Arguments of `knowledge.get`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeGetInput {
    #[schemars(length(min = 1, max = 255))]
    pub document_id: String,
    /// How many characters of the content to leave out at its beginning.
    #[schemars(range(max = 1_000_000))]
    #[serde(default)]
    pub offset: u32,
    /// How many characters of the content at the most; all of them when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_characters: Option<u32>,
}

/// Result of `knowledge.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeGetOutput {
    #[serde(flatten)]
    pub reference: KnowledgeReference,
    pub content: String,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// How many characters the whole content has.
    pub characters: u32,
    /// Where the rest of the content begins; null when there is none.
    pub next_offset: Option<u32>,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Reads one document of the tenant's knowledge base, or a part of it.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("search"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        // What was just written is found, unless the caller says that older will do.
        cache: Some(Cache { default_freshness_seconds: 0, max_freshness_seconds: 3_600, stale_seconds: 0 }),
        examples: vec![json!({"document_id": "faq-1"}), json!({"document_id": "faq-1", "offset": 0, "max_characters": 2000})],
        ..Contract::of::<KnowledgeGetInput, KnowledgeGetOutput>("knowledge.get", FIRST_VERSION)
    }
}
