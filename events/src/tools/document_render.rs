use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// Arguments of `document.render`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentRenderInput {
    #[schemars(length(min = 1, max = 500))]
    pub title: String,
    /// Markdown (CommonMark with tables). With `data` it is a template in Jinja syntax, filled in before it is rendered.
    #[schemars(length(min = 1))]
    pub markdown: String,
    /// Values for the template.
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    pub format: DocumentFormat,
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DocumentFormat {
    Html,
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
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Renders Markdown, optionally filled with data, to a self-contained HTML document kept as an artifact.",
        side_effects: SideEffects::Idempotent,
        lane: lane("render"),
        timeout_ms: 30_000,
        retry: Retry::up_to(3),
        examples: vec![
            json!({"title": "Report", "markdown": "# Report\n\nAll is well.", "format": "html"}),
            json!({"title": "Hello", "markdown": "Hello **{{ name }}**", "data": {"name": "Ada"}, "format": "html"}),
        ],
        ..Contract::of::<DocumentRenderInput, DocumentRenderOutput>("document.render", FIRST_VERSION)
    }
}
