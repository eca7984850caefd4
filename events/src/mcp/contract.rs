use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Definition, ToolName, clean, schema, text::clean_schema};
use crate::{
    Lane,
    tools::{Contract, Retry, SideEffects, Upstream},
};

/// Where the server's own schema is within that of the result.
const STRUCTURED: &str = "#/properties/structured_content";

/// What the operator says of a tool: a server's own hints bind nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rules {
    pub side_effects: SideEffects,
    /// How long one attempt may run, in milliseconds.
    pub timeout_ms: u32,
}

impl Contract {
    /// The contract of an upstream tool. What it holds of names and texts lives as long as the process: see
    /// [`super::Known::contracts`], which makes no more of them than it says.
    pub(super) fn of_upstream(name: &ToolName, definition: &Definition, rules: Rules, version: u32) -> Self {
        let described = definition.description.as_deref().or(definition.title.as_deref()).map(clean);
        let description = match described.filter(|text| !text.trim().is_empty()) {
            Some(text) => text.into_owned(),
            None => format!("A tool of the MCP server {}.", name.server),
        };
        let mut input_schema = schema::moved(definition.input_schema.clone(), "#");
        clean_schema(&mut input_schema);
        Self {
            name: Box::leak(name.to_string().into_boxed_str()),
            version,
            description: Box::leak(description.into_boxed_str()),
            permission: format!("tool.{name}:invoke"),
            side_effects: rules.side_effects,
            lane: Lane::mcp(),
            timeout_ms: rules.timeout_ms,
            // Nothing is known of what the other side does with a call that it gets twice.
            retry: Retry::up_to(if rules.side_effects == SideEffects::Effectful { 1 } else { 3 }),
            cache: None,
            localized: false,
            input_schema,
            output_schema: output_schema(definition),
            examples: Vec::new(),
            upstream: Some(Upstream {
                server: name.server.clone(),
                tool: definition.name.clone(),
                definition_sha256: definition.hash(),
            }),
        }
    }
}

/// A result with an error is no result but a failed call, so it is not described.
fn output_schema(definition: &Definition) -> Value {
    let mut properties = json!({"content": {"type": "array", "items": {"type": "object"}}, "structured_content": true});
    let mut required = vec!["content"];
    if let Some(schema) = &definition.output_schema {
        let mut schema = schema::moved(schema.clone(), STRUCTURED);
        clean_schema(&mut schema);
        properties["structured_content"] = schema;
        // Whoever names a schema must fill it.
        required.push("structured_content");
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(definition: &Value) -> Contract {
        let definition: Definition = serde_json::from_value(definition.clone()).unwrap();
        let rules = Rules { side_effects: SideEffects::Effectful, timeout_ms: 7_000 };
        Contract::of_upstream(&ToolName::new("s", &definition.name).unwrap(), &definition, rules, 3)
    }

    #[test]
    fn a_definition_becomes_a_contract() {
        let definition = json!({
            "name": "getSum", "description": "Adds\u{200b}.", "annotations": {"readOnlyHint": true},
            "input_schema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["a"]},
            "output_schema": {"$defs": {"n": {"type": "number"}}, "properties": {"sum": {"$ref": "#/$defs/n"}}},
        });
        let made = contract(&definition);
        assert_eq!((made.name, made.version, made.description), ("mcp.s.getsum", 3, "Adds."));
        assert_eq!((made.permission.as_str(), made.lane), ("tool.mcp.s.getsum:invoke", Lane::mcp()));
        // The server's hint is no reason to believe it.
        assert_eq!((made.side_effects, made.timeout_ms, made.retry.max_attempts), (SideEffects::Effectful, 7_000, 1));
        assert_eq!(made.input_schema, json!({"type": "object", "required": ["a"]}));
        let sum = &made.output_schema["properties"]["structured_content"]["properties"]["sum"];
        assert_eq!(sum["$ref"], "#/properties/structured_content/$defs/n");
        assert_eq!(made.output_schema["required"], json!(["content", "structured_content"]));
        let upstream = made.upstream.unwrap();
        assert_eq!((upstream.server.as_str(), upstream.tool.as_str()), ("s", "getSum"));
    }

    #[test]
    fn a_tool_without_words_is_described_all_the_same() {
        for silent in
            [json!({"name": "t", "input_schema": {}}), json!({"name": "t", "input_schema": {}, "description": " \u{0}"})]
        {
            let made = contract(&silent);
            assert_eq!(made.description, "A tool of the MCP server s.");
            assert_eq!(made.output_schema["required"], json!(["content"]));
        }
    }
}
