use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use toolgate_events::{
    CallView,
    description::{Schemas, schemas_of},
    tools::{self, Contract},
};

use crate::http::request_tool_call::Body;

const COMPONENTS: &str = "#/components/schemas";
/// Tools that are discovered have names of this form, and contracts that only a running gateway knows.
const DISCOVERED: &str = "^mcp\\.";

/// What this API's description refers to: the call, and for every tool the request that its contract accepts.
pub fn schemas() -> Schemas {
    let mut schemas = schemas_of::<CallView>();
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    generator.subschema_for::<Body>();
    schemas.extend(generator.take_definitions(true));
    let Some(request) = schemas.remove("ToolCallRequest") else { return schemas };

    let reference = |name: &str| json!(format!("{COMPONENTS}/{name}"));
    let (mut requests, mut mapping) = (Vec::new(), Map::new());
    for contract in tools::all() {
        let (name, arguments) = (format!("{}.request", contract.name), format!("{}.arguments", contract.name));
        requests.push(json!({"$ref": reference(&name)}));
        mapping.insert(contract.name.to_owned(), reference(&name));
        schemas.insert(name, request_of(&request, contract, &arguments));
        schemas.insert(arguments.clone(), arguments_of(contract, &arguments));
    }
    let own = json!({
        "description": "A call to a tool of this release.",
        "oneOf": requests,
        "discriminator": {"propertyName": "tool", "mapping": mapping},
    });
    let mut discovered = request.clone();
    discovered["properties"]["tool"]["pattern"] = json!(DISCOVERED);
    discovered["description"] = json!("A call to a tool of an upstream server; `GET /v1/tools/{name}` has its contract.");
    let any = ["OwnToolCallRequest", "DiscoveredToolCallRequest"].map(|name| json!({"$ref": reference(name)}));
    let any = json!({"description": request["description"], "anyOf": any});
    for (name, schema) in [("OwnToolCallRequest", own), ("DiscoveredToolCallRequest", discovered), ("ToolCallRequest", any)] {
        schemas.insert(name.to_owned(), schema);
    }
    schemas
}

fn request_of(request: &Value, contract: &Contract, arguments: &str) -> Value {
    let mut request = request.clone();
    request["description"] = json!(contract.description);
    request["properties"]["tool"] = json!({"const": contract.name, "type": "string"});
    request["properties"]["arguments"] = json!({"$ref": format!("{COMPONENTS}/{arguments}")});
    request
}

/// The contract's input schema, whose own definitions stay within it.
fn arguments_of(contract: &Contract, name: &str) -> Value {
    let mut schema = contract.input_schema.clone();
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
        members.insert("examples".to_owned(), json!(contract.examples));
    }
    move_references(&mut schema, &format!("{COMPONENTS}/{name}/"));
    schema
}

fn move_references(schema: &mut Value, to: &str) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => *reference = reference.replacen("#/", to, 1),
                    // Not schemas: what they hold only looks like one.
                    _ if matches!(name.as_str(), "examples" | "default" | "const" | "enum") => {}
                    _ => move_references(member, to),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contracts_examples_are_requests_of_exactly_one_kind() {
        let schemas = json!({"components": {"schemas": schemas()}, "$ref": "#/components/schemas/ToolCallRequest"});
        let validator = jsonschema::draft202012::new(&schemas).unwrap();
        for contract in tools::all() {
            for example in &contract.examples {
                let request = json!({"tool": contract.name, "arguments": example});
                validator.validate(&request).unwrap_or_else(|error| panic!("{}: {error}", contract.name));
                assert!(!validator.is_valid(&json!({"tool": contract.name, "arguments": {"no such": 1}})), "{}", contract.name);
            }
        }
        assert!(validator.is_valid(&json!({"tool": "mcp.time.now", "arguments": {"anything": 1}, "session_id": "s"})));
        assert!(!validator.is_valid(&json!({"tool": "no.such", "arguments": {}})));
    }
}
