use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cache, Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// Arguments of `knowledge.search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeSearchInput {
    /// Words, "quoted phrases", `or`, and `-excluded` words.
    #[schemars(length(min = 1, max = 1000))]
    pub query: String,
    /// How many hits at the most.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "default_top_k")]
    pub top_k: u32,
    #[serde(default)]
    pub filters: Option<KnowledgeFilters>,
}

/// Narrows a search.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeFilters {
    /// Only documents in this language (BCP 47).
    #[schemars(length(min = 2, max = 35))]
    pub locale: Option<String>,
    /// Only documents whose metadata contains all of this.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Result of `knowledge.search`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeSearchOutput {
    /// Best first.
    pub hits: Vec<KnowledgeHit>,
}

/// One document found.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeHit {
    pub document_id: String,
    pub title: String,
    /// Higher is better; comparable only within one answer.
    pub score: f64,
    /// A passage of the document as HTML-escaped text, the matching words in `<mark>`.
    pub highlight: String,
}

fn default_top_k() -> u32 {
    10
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Searches the tenant's knowledge base by full text and answers with ranked, highlighted hits.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("search"),
        timeout_ms: 10_000,
        localized: true,
        retry: Retry::up_to(3),
        // What was just written is found, unless the caller says that older will do.
        cache: Some(Cache { default_freshness_seconds: 0, max_freshness_seconds: 3_600, stale_seconds: 0 }),
        examples: vec![
            json!({"query": "idempotency key"}),
            json!({"query": "pembayaran", "top_k": 3, "filters": {"locale": "id"}}),
        ],
        ..Contract::of::<KnowledgeSearchInput, KnowledgeSearchOutput>("knowledge.search", FIRST_VERSION)
    }
}
