use serde_json::Value;
use toolgate_events::tools::{TemplateGetInput, TemplateGetOutput};

use super::{Call, ToolError, answer, template::Template};
use crate::Environment;

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: TemplateGetInput = call.arguments()?;
    let template = Template::find(call, environment, &input.template_id, input.version).await?;
    answer(&TemplateGetOutput {
        version: template.version(),
        template_id: input.template_id,
        markdown: template.markdown,
        description: template.description,
        sha256: template.sha256,
    })
}
