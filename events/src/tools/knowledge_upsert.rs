use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Contract, Retry, SideEffects, lane};

/// Arguments of `knowledge.upsert`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeUpsertInput {
    /// The caller's own name for the document: the same name replaces it.
    #[schemars(length(min = 1, max = 255))]
    pub document_id: String,
    #[schemars(length(min = 1, max = 500))]
    pub title: String,
    #[schemars(length(min = 1, max = 1_000_000))]
    pub content: String,
    /// Language of the text (BCP 47); decides how words are stemmed.
    #[schemars(length(min = 2, max = 35))]
    pub locale: Option<String>,
    /// Up to 100 members, 16 KiB of JSON, and 8 levels.
    #[schemars(extend("maxProperties" = 100))]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where the text is from, a URI (RFC 3986): whoever finds the document may cite it.
    #[schemars(length(max = 2_000), extend("pattern" = "^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$"))]
    pub source: Option<String>,
}

/// Result of `knowledge.upsert`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeUpsertOutput {
    pub document_id: String,
    /// SHA-256 of the content, lower-case hex.
    pub content_sha256: String,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Adds a document to the tenant's knowledge base, or replaces it.",
        side_effects: SideEffects::Idempotent,
        lane: lane("ingest"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        examples: vec![
            json!({"document_id": "faq-1", "title": "Refunds", "content": "We refund within 14 days.", "locale": "en"}),
        ],
        ..Contract::of::<KnowledgeUpsertInput, KnowledgeUpsertOutput>("knowledge.upsert", 2)
    }
}

/// The text search configurations documents are indexed with.
pub const SEARCH_CONFIGS: &[&str] = &[
    "simple",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "indonesian",
    "italian",
    "norwegian",
    "portuguese",
    "spanish",
    "swedish",
    "turkish",
];

/// The text search configuration for a language tag (BCP 47); `simple`, which stems nothing, for any other.
pub fn search_config(locale: Option<&str>) -> &'static str {
    let language = locale.unwrap_or_default().split('-').next().unwrap_or_default().to_ascii_lowercase();
    match language.as_str() {
        "da" => "danish",
        "de" => "german",
        "en" => "english",
        "es" => "spanish",
        "fi" => "finnish",
        "fr" => "french",
        "id" => "indonesian",
        "it" => "italian",
        "nb" | "nn" | "no" => "norwegian",
        "nl" => "dutch",
        "pt" => "portuguese",
        "sv" => "swedish",
        "tr" => "turkish",
        _ => "simple",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_tag_finds_its_configuration() {
        for (locale, config) in [(Some("id-ID"), "indonesian"), (Some("EN"), "english"), (Some("xx"), "simple"), (None, "simple")]
        {
            assert_eq!(search_config(locale), config);
            assert!(SEARCH_CONFIGS.contains(&config));
        }
    }
}
