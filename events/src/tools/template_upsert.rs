use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Contract, Retry, SideEffects, lane};

/// Arguments of `template.upsert`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateUpsertInput {
    /// The caller's own name for the template: under the same name, it becomes the next version.
    #[schemars(length(min = 1, max = 255))]
    pub template_id: String,
    /// Markdown (CommonMark with tables) in Jinja syntax.
    #[schemars(length(min = 1, max = 1_000_000))]
    pub markdown: String,
    #[schemars(length(min = 1, max = 2000))]
    pub description: Option<String>,
}

/// Result of `template.upsert`. Which version it became, `template.get` tells.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TemplateUpsertOutput {
    /// The name it is kept under.
    pub template_id: String,
    /// Of the Markdown, lower-case hex.
    pub sha256: String,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Adds a template for documents, or the next version of one. The same content again makes no new version.",
        side_effects: SideEffects::Idempotent,
        lane: lane("ingest"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        examples: vec![
            json!({"template_id": "invoice", "markdown": "# Invoice\n\nTotal: **{{ total }}**", "description": "For customers"}),
        ],
        // 2: the Markdown is bounded.
        ..Contract::of::<TemplateUpsertInput, TemplateUpsertOutput>("template.upsert", 2)
    }
}
