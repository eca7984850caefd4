use serde_json::Value;
use sha2::{Digest, Sha256};
use toolgate_events::{
    canonical,
    tools::{DocumentFormat, DocumentRenderInput, DocumentRenderOutput},
};
use uuid::Uuid;

use super::{Call, ToolError, answer, markdown};
use crate::Environment;

/// The artifact's id follows from the call's and its bytes from the arguments, so that running twice leaves one artifact.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: DocumentRenderInput = call.arguments()?;
    let DocumentFormat::Html = input.format;
    let html = tokio::task::spawn_blocking(move || markdown::render_html(&input.title, &input.markdown, input.data.as_ref()))
        .await
        .map_err(|panic| ToolError::Internal(panic.to_string()))?
        .map_err(ToolError::InvalidArguments)?;
    let artifact_id = Uuid::new_v5(&call.call_id.0, b"artifact");
    environment
        .artifacts
        .put(call.tenant_id, artifact_id, html.as_bytes())
        .await
        .map_err(|error| ToolError::Infrastructure(error.to_string()))?;
    answer(&DocumentRenderOutput {
        artifact_id,
        content_type: "text/html; charset=utf-8".to_owned(),
        size: html.len() as u64,
        sha256: canonical::hex(&Sha256::digest(html.as_bytes())),
    })
}
