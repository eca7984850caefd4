//! JSON Schema of what others read: the events, and the call as both APIs answer it. The APIs' descriptions are made of it.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use crate::{DecodeError, RefusalEvent, ToolCallEvent, upcast};

/// Schemas by name; one refers to another as `#/components/schemas/<name>`, as in OpenAPI and AsyncAPI.
pub type Schemas = BTreeMap<String, Value>;

/// An event type as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDescription {
    pub event_type: String,
    /// The versions ever written, in order; the last is the one that this release writes.
    pub versions: Vec<u32>,
    /// The schema of the newest version's `data`, by name.
    pub data: String,
}

/// `T` as it is written, and every type within it.
pub fn schemas_of<T: JsonSchema>() -> Schemas {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    generator.subschema_for::<T>();
    let mut schemas: Schemas = generator.take_definitions(true).into_iter().collect();
    schemas.values_mut().for_each(drop_null_of_what_may_be_absent);
    schemas
}

/// Every event type, with the schemas that their data is made of.
pub fn events() -> (Vec<EventDescription>, Schemas) {
    let (mut events, mut schemas) = (Vec::new(), Schemas::new());
    for (mut found, kind) in [
        (schemas_of::<ToolCallEvent>(), ToolCallEvent::schema_name()),
        (schemas_of::<RefusalEvent>(), RefusalEvent::schema_name()),
    ] {
        let variants = found.remove(kind.as_ref()).and_then(|mut schema| Some(schema.get_mut("oneOf")?.take()));
        let variants = variants.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        events.extend(variants.iter().filter_map(event));
        schemas.append(&mut found);
    }
    (events, schemas)
}

/// A variant of an enum whose tag is `event_type` and whose content is `data`.
fn event(variant: &Value) -> Option<EventDescription> {
    let event_type = variant.pointer("/properties/event_type/const")?.as_str()?.to_owned();
    let data = variant.pointer("/properties/data/$ref")?.as_str()?.rsplit('/').next()?.to_owned();
    Some(EventDescription { versions: versions(&event_type), event_type, data })
}

/// The versions that can be read, asked of the upcaster itself.
fn versions(event_type: &str) -> Vec<u32> {
    let is_known = |version: &u32| {
        let read = upcast(event_type, *version, &Value::Null);
        !matches!(read, Err(DecodeError::UnknownType(_) | DecodeError::UnknownVersion { .. }))
    };
    (1..).take_while(is_known).collect()
}

/// What is left out when there is none is never null.
fn drop_null_of_what_may_be_absent(schema: &mut Value) {
    let required: Vec<Value> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !required.iter().any(|required| required == *name)) {
        drop_null(property);
    }
}

fn drop_null(property: &mut Value) {
    let Some(members) = property.as_object_mut() else { return };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(options)) = members.get_mut("anyOf") else { return };
    options.retain(|option| option["type"] != "null");
    if let [Value::Object(only)] = options.as_slice() {
        let only = only.clone();
        members.remove("anyOf");
        members.extend(only);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::CallView;

    #[test]
    fn every_event_is_described_with_the_version_that_is_written() {
        let (events, schemas) = events();
        let names: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
        assert!(names.contains(&ToolCallEvent::REQUESTED) && names.contains(&RefusalEvent::RATE_LIMITED), "{names:?}");
        let requested = events.iter().find(|event| event.event_type == ToolCallEvent::REQUESTED).unwrap();
        assert_eq!(requested.versions, [1, 2, 3]);
        for event in &events {
            assert!(schemas.contains_key(&event.data), "{event:?}");
            assert!(!event.versions.is_empty(), "{event:?}");
        }
    }

    #[test]
    fn what_may_be_absent_is_never_null_and_what_may_be_null_is_never_absent() {
        let call = &schemas_of::<CallView>()["ToolCall"];
        let required = call["required"].as_array().unwrap();
        assert!(required.contains(&json!("session_id")) && required.contains(&json!("position")), "{call}");
        assert!(!required.contains(&json!("error")) && !required.contains(&json!("finished_at")), "{call}");
        assert_eq!(call["properties"]["session_id"]["type"], json!(["string", "null"]));
        assert_eq!(call["properties"]["cached"]["type"], "boolean");
        assert_eq!(call["properties"]["error"]["$ref"], "#/components/schemas/CallError");
        assert_eq!(call["properties"]["finished_at"]["type"], "string");
    }
}
