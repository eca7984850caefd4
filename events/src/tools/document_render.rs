use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Contract, Retry, SideEffects, lane, template_get::MAX_VERSION};

/// Arguments of `document.render`: the text itself, or the name of a template.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["markdown"]}, {"required": ["template_id"]}],
    "dependentRequired" = {"template_version": ["template_id"]},
))]
pub struct DocumentRenderInput {
    #[schemars(length(min = 1, max = 500))]
    pub title: String,
    /// Markdown (CommonMark with tables). With `data` it is a template in Jinja syntax, filled in before it is rendered.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1_000_000))]
    pub markdown: Option<String>,
    /// A template kept with `template.upsert`, filled in with `data`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    pub template_id: Option<String>,
    /// The latest when absent.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = MAX_VERSION))]
    pub template_version: Option<u32>,
    /// Values for the template.
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    pub format: DocumentFormat,
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DocumentFormat {
    Html,
    Pdf,
}

/// Result of `document.render`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DocumentRenderOutput {
    /// Download it at `/v1/artifacts/{artifact_id}`.
    pub artifact_id: Uuid,
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Of the artifact's bytes, lower-case hex.
    pub sha256: String,
    /// Of a PDF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<u32>,
    /// The version of the template that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_version: Option<u32>,
    /// Of that version's Markdown, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_sha256: Option<String>,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Renders Markdown or a template, optionally filled with data, to a self-contained HTML document or a PDF kept \
                      as an artifact.",
        side_effects: SideEffects::Idempotent,
        lane: lane("render"),
        timeout_ms: 30_000,
        retry: Retry::up_to(3),
        localized: true,
        examples: vec![
            json!({"title": "Report", "markdown": "# Report\n\nAll is well.", "format": "html"}),
            json!({"title": "Hello", "markdown": "Hello **{{ name }}**", "data": {"name": "Ada"}, "format": "html"}),
            json!({"title": "Report", "markdown": "| Region | Calls |\n|---|---:|\n| Java | 12 |", "format": "pdf"}),
            json!({"title": "Invoice", "template_id": "invoice", "data": {"total": "12.00"}, "format": "pdf"}),
        ],
        // 2: what there can be no more of is bounded, and what is absent is not null.
        ..Contract::of::<DocumentRenderInput, DocumentRenderOutput>("document.render", 2)
    }
}
