//! `GET /asyncapi.json`: the event stream, described (AsyncAPI 3.0).

use serde_json::{Map, Value, json};
use toolgate_events::description::{EventDescription, events};

use crate::http;

const PATH: &str = "/v1/events";
const SCHEMAS: &str = "#/components/schemas";
const CHANNEL: &str = "#/channels/events";

/// The description of `GET /v1/events`, made of what describes the endpoint itself and of the event types.
pub fn asyncapi() -> Value {
    let endpoint = serde_json::to_value(http::openapi()).unwrap_or_default();
    let operation = &endpoint["paths"][PATH]["get"];
    let (events, data) = events();

    let mut schemas: Map<String, Value> = data.into_iter().collect();
    schemas.insert("CloudEvent".to_owned(), endpoint["components"]["schemas"]["CloudEvent"].clone());
    let mut messages: Map<String, Value> =
        events.iter().map(|event| (event.event_type.clone(), message(event, &schemas[&event.data]))).collect();
    messages.extend(the_streams_own());

    let in_channel: Map<_, _> =
        messages.keys().map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")}))).collect();
    let sent: Vec<_> = messages.keys().map(|name| json!({"$ref": format!("{CHANNEL}/messages/{name}")})).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "toolgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What happens to the calls of a tenant, as server-sent events.",
            "license": {"name": "Apache License 2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"gateway": {
            "host": "{host}",
            "protocol": "http",
            "description": "The gateway, or its query API",
            "variables": {"host": {"default": "127.0.0.1:8080", "description": "Name and port"}},
            "security": [{"$ref": "#/components/securitySchemes/bearer"}],
        }},
        "channels": {"events": {
            "address": PATH,
            "title": "A tenant's events",
            "description": operation["description"],
            "messages": in_channel,
        }},
        "operations": {"subscribe_events": {
            "action": "send",
            "channel": {"$ref": CHANNEL},
            "title": operation["summary"],
            "description": "A GET request opens the stream. It ends when the token does.",
            "messages": sent,
            "bindings": {"http": {"method": "GET", "query": query(operation), "bindingVersion": "0.3.0"}},
        }},
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

fn message(event: &EventDescription, data: &Value) -> Value {
    let EventDescription { event_type, versions, data: name } = event;
    let newest = versions.last();
    let envelope = json!({
        "type": "object",
        "properties": {
            "type": {"const": event_type},
            "dataversion": {"enum": versions},
            "data": {"description": format!("Its shape in version {}; older versions keep theirs.", newest.unwrap_or(&1))},
        },
    });
    let current = json!({
        "if": {"properties": {"dataversion": {"const": newest}}},
        "then": {"properties": {"data": {"$ref": format!("{SCHEMAS}/{name}")}}},
    });
    json!({
        "name": event_type,
        "title": event_type,
        "summary": data["description"],
        "contentType": "application/json",
        "headers": fields(event_type, true),
        "payload": {"allOf": [{"$ref": format!("{SCHEMAS}/CloudEvent")}, envelope, current]},
        "x-version": newest,
        "x-data": {"$ref": format!("{SCHEMAS}/{name}")},
    })
}

/// What the stream says about itself.
fn the_streams_own() -> [(String, Value); 2] {
    let of = |name: &str, has_id: bool, summary: &str, member: &str, about: &str| {
        let payload = json!({
            "type": "object",
            "properties": {member: {"type": "string", "description": about}},
            "required": [member],
        });
        let message = json!({
            "name": name,
            "title": name,
            "summary": summary,
            "contentType": "application/json",
            "headers": fields(name, has_id),
            "payload": payload,
        });
        (name.to_owned(), message)
    };
    let reset = "The position asked for lies beyond the newest: the stream goes on from that one";
    let unauthorized = "The token no longer counts, or no longer allows it: the stream ends";
    [
        of("reset", true, reset, "position", "The newest position."),
        of("unauthorized", false, unauthorized, "detail", "Why, for whoever reads it."),
    ]
}

/// The fields of a frame beside `data` (WHATWG HTML, section 9.2.5).
fn fields(event: &str, has_id: bool) -> Value {
    let mut fields = json!({
        "type": "object",
        "properties": {"event": {"const": event}},
        "required": ["event"],
    });
    if has_id {
        let id = json!({"type": "string", "description": "A position of the tenant, to resume after with `Last-Event-ID`."});
        fields["properties"]["id"] = id;
        fields["required"] = json!(["event", "id"]);
    }
    fields
}

/// The endpoint's query parameters as one schema.
fn query(operation: &Value) -> Value {
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let in_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
    let properties: Map<String, Value> = in_query
        .filter_map(|parameter| {
            let mut schema = parameter["schema"].clone();
            // A parameter that is not there has no value, not even null.
            if let Some(Value::Array(types)) = schema.get("type").cloned() {
                schema["type"] = types.into_iter().find(|kind| kind != "null")?;
            }
            if let Some(about) = parameter.get("description") {
                schema["description"] = about.clone();
            }
            Some((parameter["name"].as_str()?.to_owned(), schema))
        })
        .collect();
    json!({"type": "object", "properties": properties})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_and_every_parameter_is_in_it() {
        let document = asyncapi();
        let names: BTreeSet<_> = document["components"]["messages"].as_object().unwrap().keys().cloned().collect();
        let (events, _) = events();
        let expected: BTreeSet<_> =
            events.into_iter().map(|event| event.event_type).chain(["reset".to_owned(), "unauthorized".to_owned()]).collect();
        assert_eq!(names, expected);
        let query = &document["operations"]["subscribe_events"]["bindings"]["http"]["query"]["properties"];
        let names: BTreeSet<_> = query.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["after", "call_id", "session_id", "type"]));
        assert_eq!(query["after"]["type"], "string");
        assert!(document["channels"]["events"]["description"].is_string(), "the endpoint is described elsewhere");
        assert!(document["components"]["schemas"]["CloudEvent"]["properties"]["position"].is_object());
    }
}
