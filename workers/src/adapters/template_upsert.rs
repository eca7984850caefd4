use serde_json::Value;
use sha2::{Digest, Sha256};
use toolgate_events::{
    canonical,
    tools::{TemplateUpsertInput, TemplateUpsertOutput},
};

use super::{Call, ToolError, answer};
use crate::Environment;

/// The version is a projection of this outcome: recording it is the whole effect. What no document could be made from is refused
/// here, where its author hears of it.
pub async fn run(call: &Call, _: &Environment) -> Result<Value, ToolError> {
    let input: TemplateUpsertInput = call.arguments()?;
    toolgate_render::check_template(&input.markdown).map_err(|error| ToolError::InvalidArguments(error.to_string()))?;
    answer(&TemplateUpsertOutput {
        sha256: canonical::hex(&Sha256::digest(input.markdown.as_bytes())),
        template_id: input.template_id,
    })
}
