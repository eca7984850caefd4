//! What no single route knows of the API's description.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolgate_events::description::Schemas;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, Info, License, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema, SecurityRequirement, Server,
        security::{Http, HttpAuthScheme, SecurityScheme},
        tag::TagBuilder,
    },
};

const TITLE: &str = "toolgate";
const ABOUT: &str = "The gateway through which AI agents call tools: every call is an event.";
const COMPONENTS: &str = "#/components/schemas/";

/// What the operations are sorted by.
const TAGS: [(&str, &str); 6] = [
    ("tool-calls", "Calls of tools, from the request to the outcome"),
    ("events", "What happens, as it happens; `/asyncapi.json` describes the stream"),
    ("audit", "What happened, with its proof"),
    ("tools", "The contracts of the tools"),
    ("read-models", "What tools made, the sessions they were called in, and what was used"),
    ("webhooks", "What other services tell toolgate, signed by them"),
];

/// A type of the domain where a description refers to it. Its schema is given to [`describe`].
#[derive(Debug)]
pub struct Described<T>(std::marker::PhantomData<T>);

impl<T: schemars::JsonSchema> PartialSchema for Described<T> {
    fn schema() -> RefOr<Schema> {
        RefOr::Ref(Ref::from_schema_name(T::schema_name()))
    }
}

impl<T: schemars::JsonSchema> ToSchema for Described<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
}

/// The OpenAPI document of an entrance: its routes' own, with the schemas that they refer to.
///
/// # Errors
/// None for a document that was made by code; the signature is serde's.
pub fn describe(mut document: OpenApi, schemas: Schemas) -> Result<Value, serde_json::Error> {
    document.info = Info::new(TITLE, env!("CARGO_PKG_VERSION"));
    document.info.description = Some(ABOUT.to_owned());
    let mut license = License::new("Apache License 2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    document.info.license = Some(license);
    document.servers = Some(vec![Server::new("/")]);
    let tag = |(name, about): (&str, &str)| TagBuilder::new().name(name).description(Some(about)).build();
    document.tags = Some(TAGS.map(tag).to_vec());
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().security_schemes.insert("bearer".to_owned(), bearer.into());
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);

    let mut document = serde_json::to_value(document)?;
    if let Some(components) = document.pointer_mut("/components").and_then(Value::as_object_mut) {
        let described = components.entry("schemas").or_insert_with(|| json!({}));
        if let Some(described) = described.as_object_mut() {
            described.extend(schemas);
            name_what_is_repeated(described);
        }
    }
    Ok(document)
}

/// Generic types repeat their parameter's schema; a reference to it says the same.
fn name_what_is_repeated(schemas: &mut serde_json::Map<String, Value>) {
    let is_type = |schema: &&Value| schema.get("properties").is_some();
    let named: Vec<(String, Value)> =
        schemas.iter().filter(|(_, schema)| is_type(schema)).map(|(name, schema)| (name.clone(), schema.clone())).collect();
    let by_text: BTreeMap<String, &str> = named.iter().map(|(name, schema)| (schema.to_string(), name.as_str())).collect();
    for (_, schema) in schemas.iter_mut() {
        members(schema).for_each(|member| name_where_repeated(member, &by_text));
    }
}

fn name_where_repeated(schema: &mut Value, by_text: &BTreeMap<String, &str>) {
    let name = schema.get("properties").and_then(|_| by_text.get(&schema.to_string()));
    match name {
        Some(name) => *schema = json!({"$ref": format!("{COMPONENTS}{name}")}),
        None => members(schema).for_each(|member| name_where_repeated(member, by_text)),
    }
}

fn members(schema: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match schema {
        Value::Object(members) => Box::new(members.values_mut()),
        Value::Array(items) => Box::new(items.iter_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

/// A status with which an endpoint refuses, and when, for its documentation: the body is a problem (RFC 9457).
pub fn refusal((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("ProblemDocument"))));
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content).build();
    (status.to_owned(), RefOr::T(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_schema_becomes_a_reference_and_its_own_stays() {
        let task = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let page = json!({"type": "object", "properties": {"items": {"type": "array", "items": task}}});
        let Value::Object(mut schemas) = json!({"Task": task, "Page": page}) else { unreachable!() };
        name_what_is_repeated(&mut schemas);
        assert_eq!(schemas["Task"], task);
        assert_eq!(schemas["Page"]["properties"]["items"]["items"], json!({"$ref": "#/components/schemas/Task"}));
    }
}
