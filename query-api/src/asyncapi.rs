//! `GET /asyncapi.json`: the event streams, described (AsyncAPI 3.0).

use serde_json::{Map, Value, json};
use toolgate_events::description::{EventDescription, events};

use crate::http;

const SCHEMAS: &str = "#/components/schemas";

/// A stream of a tenant's events.
struct Channel {
    name: &'static str,
    path: &'static str,
    title: &'static str,
    operation: &'static str,
    ends: &'static str,
    /// What it says besides events.
    own: &'static [&'static str],
}

const CHANNELS: [Channel; 2] = [
    Channel {
        name: "events",
        path: "/v1/events",
        title: "A tenant's events",
        operation: "subscribe_events",
        ends: "It ends when the token does.",
        own: &["reset", "mode", "unauthorized"],
    },
    Channel {
        name: "replay",
        path: "/v1/audit/replay",
        title: "A tenant's history again",
        operation: "replay_audit",
        ends: "It ends with the message `end`, or when the token does.",
        own: &["reset", "end", "unauthorized"],
    },
];

/// The description of the query side's event streams, made of what describes the endpoints themselves and of the event types.
pub fn asyncapi() -> Value {
    let endpoint = serde_json::to_value(http::openapi()).unwrap_or_default();
    let (events, data) = events();

    let mut schemas: Map<String, Value> = data.into_iter().collect();
    schemas.insert("CloudEvent".to_owned(), projected(&endpoint["components"]["schemas"]["CloudEvent"]));
    let mut messages: Map<String, Value> =
        events.iter().map(|event| (event.event_type.clone(), message(event, &schemas[&event.data]))).collect();
    let names: Vec<_> = messages.keys().cloned().collect();
    messages.extend(the_streams_own());

    let (mut channels, mut operations) = (Map::new(), Map::new());
    for channel in &CHANNELS {
        let operation = &endpoint["paths"][channel.path]["get"];
        let messages = names.iter().map(String::as_str).chain(channel.own.iter().copied());
        channels.insert(channel.name.to_owned(), channel.describe(operation, messages.clone()));
        operations.insert(channel.operation.to_owned(), channel.operation(operation, messages));
    }
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
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

impl Channel {
    fn describe<'a>(&self, operation: &Value, messages: impl Iterator<Item = &'a str>) -> Value {
        let messages: Map<_, _> =
            messages.map(|name| (name.to_owned(), json!({"$ref": format!("#/components/messages/{name}")}))).collect();
        json!({"address": self.path, "title": self.title, "description": operation["description"], "messages": messages})
    }

    fn operation<'a>(&self, operation: &Value, messages: impl Iterator<Item = &'a str>) -> Value {
        let channel = format!("#/channels/{}", self.name);
        let messages: Vec<_> = messages.map(|name| json!({"$ref": format!("{channel}/messages/{name}")})).collect();
        json!({
            "action": "send",
            "channel": {"$ref": channel},
            "title": operation["summary"],
            "description": format!("A GET request opens the stream. {}", self.ends),
            "messages": messages,
            "bindings": {"http": {"method": "GET", "query": query(operation), "bindingVersion": "0.3.0"}},
        })
    }
}

/// What is projected has a position.
fn projected(cloud_event: &Value) -> Value {
    let mut schema = cloud_event.clone();
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("position".into());
    }
    schema
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
fn the_streams_own() -> [(String, Value); 4] {
    let text = |member: &str, about: &str| {
        json!({
            "type": "object",
            "properties": {member: {"type": "string", "description": about}},
            "required": [member],
        })
    };
    let mode = json!({
        "type": "object",
        "properties": {
            "mode": {"enum": ["normal", "safe"]},
            "reason": {"enum": ["lag", "operator"], "description": "Why, in safe mode."},
            "interval_ms": {"type": "integer", "description": "Between two bursts, in safe mode."},
        },
        "required": ["mode"],
    });
    let of = |name: &str, has_id: bool, summary: &str, payload: Value| {
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
    let changed = "How often events go out from now on: at once, or in bursts, of which none is left out. It may be ignored";
    [
        of("reset", true, reset, text("position", "The newest position.")),
        of("mode", false, changed, mode),
        of("end", true, "The last event of the replay has come", text("position", "The position that it went to.")),
        of("unauthorized", false, unauthorized, text("detail", "Why, for whoever reads it.")),
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
        let names_of_events = events.len();
        let expected: BTreeSet<_> =
            events.into_iter().map(|event| event.event_type).chain(the_streams_own().map(|(name, _)| name)).collect();
        assert_eq!(names, expected);
        let query = &document["operations"]["subscribe_events"]["bindings"]["http"]["query"]["properties"];
        let names: BTreeSet<_> = query.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["after", "call_id", "session_id", "type"]));
        assert_eq!(query["after"]["type"], "string");
        for channel in &CHANNELS {
            assert!(document["channels"][channel.name]["description"].is_string(), "{} is described elsewhere", channel.path);
            let messages = document["channels"][channel.name]["messages"].as_object().unwrap();
            assert_eq!(messages.len(), names_of_events + channel.own.len());
        }
        let required = document["components"]["schemas"]["CloudEvent"]["required"].as_array().unwrap();
        assert!(required.contains(&json!("position")));
        assert!(document["components"]["schemas"]["CloudEvent"]["properties"]["position"].is_object());
    }
}
