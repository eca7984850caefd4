use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cache, Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// How many matching documents are ranked at the most.
pub const MAX_RANKED: u32 = 500;

/// Arguments of `knowledge.search`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
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
    /// Where an earlier answer to the same query and filters ended.
    #[schemars(length(min = 1, max = 2000))]
    pub cursor: Option<String>,
}

/// Narrows a search.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeFilters {
    /// Only documents in this language (BCP 47); `id` finds `id-ID` as well.
    #[schemars(length(min = 2, max = 35))]
    pub locale: Option<String>,
    /// Only documents whose metadata contains all of this.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Only these documents.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 255)))]
    pub document_ids: Option<Vec<String>>,
    /// Only documents written after this time (RFC 3339).
    pub updated_after: Option<DateTime<Utc>>,
}

/// Result of `knowledge.search`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeSearchOutput {
    /// Best first; equal scores by document id.
    pub hits: Vec<KnowledgeHit>,
    /// Whether every matching document was ranked. When more than 500 match, those with all the words in the title are ranked, then the
    /// newest.
    pub is_complete: bool,
    /// For the next page, which shows the knowledge base as the first one did; a document that was replaced meanwhile is left out.
    pub next_cursor: Option<String>,
}

/// One document found.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeHit {
    #[serde(flatten)]
    pub reference: KnowledgeReference,
    /// Higher is better; comparable only within the answers to one query.
    pub score: f64,
    /// A passage of the document as HTML-escaped text, the matching words in `<mark>`.
    pub highlight: String,
}

/// What it takes to cite a document.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeReference {
    pub document_id: String,
    pub title: String,
    /// Language of the text (BCP 47).
    pub locale: Option<String>,
    /// Where the text is from: as it was upserted, or else the metadata's `source`.
    pub source: Option<String>,
    /// When this version was written (RFC 3339).
    pub updated_at: DateTime<Utc>,
    /// The position of the event that made this version, as in the audit trail.
    pub position: String,
    /// SHA-256 of the content, lower-case hex.
    pub content_sha256: String,
}

fn default_top_k() -> u32 {
    10
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Searches the tenant's knowledge base by full text and answers with ranked, highlighted hits that say where they \
                      are from. Of more than 500 matching documents those with the words in the title, then the newest, are ranked.",
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
