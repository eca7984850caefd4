use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// Arguments of `template.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateGetInput {
    #[schemars(length(min = 1, max = 255))]
    pub template_id: String,
    /// The latest when absent.
    #[schemars(range(min = 1))]
    pub version: Option<u32>,
}

/// Result of `template.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TemplateGetOutput {
    pub template_id: String,
    /// From 1, without gaps.
    pub version: u32,
    pub markdown: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of the Markdown, lower-case hex.
    pub sha256: String,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Reads a template, as it is or as it was in an earlier version.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("search"),
        timeout_ms: 5_000,
        retry: Retry::up_to(3),
        examples: vec![json!({"template_id": "invoice"}), json!({"template_id": "invoice", "version": 1})],
        ..Contract::of::<TemplateGetInput, TemplateGetOutput>("template.get", FIRST_VERSION)
    }
}
