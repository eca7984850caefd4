use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Contract, Retry, SideEffects, lane};

/// A template has no more versions: what counts them holds no more.
pub(super) const MAX_VERSION: u32 = i32::MAX.unsigned_abs();

/// Arguments of `template.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateGetInput {
    /// The name it was kept under.
    #[schemars(length(min = 1, max = 255))]
    pub template_id: String,
    /// The latest when absent.
    #[schemars(range(min = 1, max = MAX_VERSION))]
    pub version: Option<u32>,
}

/// Result of `template.get`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TemplateGetOutput {
    /// The name it is kept under.
    pub template_id: String,
    /// From 1, without gaps.
    pub version: u32,
    /// As it was kept, not filled in.
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
        // 2: versions are bounded.
        ..Contract::of::<TemplateGetInput, TemplateGetOutput>("template.get", 2)
    }
}
