use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use toolgate_events::mcp::clean;

use super::{Call, ToolError, without_nul};
use crate::Environment;

/// Bytes of a result at the most.
const MAX_RESULT: usize = 256 * 1024;
/// Characters of a tool's own words about its failure.
const MAX_WORDS: usize = 2_000;

/// Any tool of any upstream MCP server. The call's id goes along in `_meta`; what a server makes of it is its own affair.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let Some(upstream) = &call.contract.upstream else {
        return Err(ToolError::Internal("the contract names no upstream".to_owned()));
    };
    let arguments: Map<String, Value> = call.arguments()?;
    result(environment.mcp.call(upstream, call.tenant_id, call.call_id, arguments).await?)
}

/// What a tool says of its own failure is a failure of the call, and not a result that reads like one.
fn result(answer: CallToolResult) -> Result<Value, ToolError> {
    let content = serde_json::to_value(&answer.content)?;
    if answer.is_error == Some(true) {
        return Err(ToolError::Reported(words(&content)));
    }
    let mut result = json!({"content": content});
    if let Some(structured) = answer.structured_content {
        result["structured_content"] = structured;
    }
    without_nul(&mut result);
    if result.to_string().len() > MAX_RESULT {
        let detail = format!("the MCP server's answer is larger than {MAX_RESULT} bytes");
        return Err(ToolError::Upstream { detail, sent: true });
    }
    Ok(result)
}

fn words(content: &Value) -> String {
    let texts = content.as_array().into_iter().flatten().filter_map(|block| block["text"].as_str());
    let all = texts.flat_map(|text| [text, "\n"]).flat_map(str::chars).take(MAX_WORDS).collect::<String>();
    match clean(all.trim()).into_owned() {
        none if none.is_empty() => "the tool says that it failed, and not why".to_owned(),
        words => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(answer: Value) -> Result<Value, ToolError> {
        result(serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn an_answer_becomes_a_result() {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        assert_eq!(made(json!({"content": text("a\0b")})).unwrap(), json!({"content": text("a\u{fffd}b")}));
        let structured = made(json!({"content": [], "structuredContent": {"n\0": 1}})).unwrap();
        assert_eq!(structured, json!({"content": [], "structured_content": {"n\u{fffd}": 1}}));
    }

    #[test]
    fn a_failure_is_told_in_the_tools_own_words_and_not_too_many() {
        let failure = |content: Value| made(json!({"content": content, "isError": true})).unwrap_err().to_string();
        assert_eq!(failure(json!([{"type": "text", "text": "no such\u{1b}[31m file\u{200b}"}])), "no such[31m file");
        assert_eq!(failure(json!([])), "the tool says that it failed, and not why");
        assert_eq!(failure(json!([{"type": "text", "text": "x".repeat(3_000)}])).len(), MAX_WORDS);
    }

    #[test]
    fn a_result_is_bounded_exactly() {
        let of_size = |size: usize| {
            let empty = json!({"content": [{"type": "text", "text": ""}]}).to_string().len();
            made(json!({"content": [{"type": "text", "text": "x".repeat(size - empty)}]}))
        };
        assert!(of_size(MAX_RESULT - 1).is_ok() && of_size(MAX_RESULT).is_ok());
        assert!(matches!(of_size(MAX_RESULT + 1), Err(ToolError::Upstream { sent: true, .. })));
    }
}
