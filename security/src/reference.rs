//! `GET /docs`: the API's description as a page. It is made here and loads nothing, neither from this service nor from another.

use std::fmt::Write;

use axum::response::{Html, IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("reference.css");
const VERBS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The page and the policy that goes with it: its own style is all it may use.
#[derive(Clone, Debug)]
pub struct Reference {
    page: String,
    policy: HeaderValue,
}

impl Reference {
    pub fn of(document: &Value) -> Self {
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { page: page(document), policy }
    }
}

impl IntoResponse for Reference {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        (headers, Html(self.page)).into_response()
    }
}

fn page(document: &Value) -> String {
    let (title, about) = (text(&document["info"]["title"]), prose(text(&document["info"]["description"])));
    let version = escaped(text(&document["info"]["version"]));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}: the API</title>\n<style>{STYLE}</style>\n<h1>{title} {version}</h1>\n<p>{about}</p>\n\
         <p>For programs: <a href=\"/openapi.json\">OpenAPI</a>, <a href=\"/asyncapi.json\">AsyncAPI</a>.</p>\n"
    );
    for tag in list(&document["tags"]) {
        let operations = operations_of(document, text(&tag["name"]));
        if !operations.is_empty() {
            let (name, about) = (escaped(text(&tag["name"])).replace('-', " "), prose(text(&tag["description"])));
            add(&mut page, format_args!("<h2>{name}</h2>\n<p>{about}</p>\n{operations}"));
        }
    }
    page.push_str("<h2>Schemas</h2>\n");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let (name, shown) = (escaped(name), json(schema));
        add(&mut page, format_args!("<details id=\"{name}\"><summary><code>{name}</code></summary>{shown}</details>\n"));
    }
    page
}

fn operations_of(document: &Value, tag: &str) -> String {
    let mut shown = String::new();
    for (path, item) in members(&document["paths"]) {
        for (verb, operation) in members(item).filter(|(verb, _)| VERBS.contains(&verb.as_str())) {
            if list(&operation["tags"]).any(|name| name == tag) {
                show(&mut shown, verb, path, operation);
            }
        }
    }
    shown
}

fn show(page: &mut String, verb: &str, path: &str, operation: &Value) {
    let (summary, about) = (prose(text(&operation["summary"])), prose(text(&operation["description"])));
    let (id, path) = (escaped(text(&operation["operationId"])), escaped(path));
    add(
        page,
        format_args!(
            "<details id=\"{id}\"><summary><code class=\"method {verb}\">{}</code> <code>{path}</code> {summary}</summary>\n<p>{about}</p>\n",
            verb.to_uppercase()
        ),
    );
    if operation["parameters"].is_array() {
        page.push_str("<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>\n");
        for parameter in list(&operation["parameters"]) {
            let (name, place) = (escaped(text(&parameter["name"])), escaped(text(&parameter["in"])));
            let (kind, about) = (kind(&parameter["schema"]), prose(text(&parameter["description"])));
            add(page, format_args!("<tr><td><code>{name}</code></td><td>{place}</td><td>{kind}</td><td>{about}</td></tr>\n"));
        }
        page.push_str("</table>\n");
    }
    for (media, content) in members(&operation["requestBody"]["content"]) {
        add(page, format_args!("<p>Body: <code>{}</code>, {}</p>\n", escaped(media), kind(&content["schema"])));
    }
    page.push_str("<table><tr><th>Status</th><th>Body</th><th></th></tr>\n");
    for (status, response) in members(&operation["responses"]) {
        let bodies: Vec<_> = members(&response["content"])
            .map(|(media, content)| format!("<code>{}</code> {}", escaped(media), kind(&content["schema"])))
            .collect();
        let about = prose(text(&response["description"]));
        add(page, format_args!("<tr><td>{}</td><td>{}</td><td>{about}</td></tr>\n", escaped(status), bodies.join("<br>")));
    }
    page.push_str("</table></details>\n");
}

/// A type in a word, or a link to its schema.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    match &schema["type"] {
        Value::String(kind) => escaped(kind),
        Value::Array(kinds) => kinds.iter().map(text).filter(|kind| *kind != "null").collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}

/// A schema as JSON, in which references lead to what they name.
fn json(schema: &Value) -> String {
    let lines = escaped(&format!("{schema:#}"));
    let mut shown = String::from("<pre>");
    let mut rest = lines.as_str();
    while let Some((before, after)) = rest.split_once("#/components/schemas/") {
        let (name, after) = after.split_once("&quot;").unwrap_or((after, ""));
        add(&mut shown, format_args!("{before}<a href=\"#{name}\">#/components/schemas/{name}</a>&quot;"));
        rest = after;
    }
    shown + rest + "</pre>"
}

/// Text with `code` in it.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn add(page: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _always = page.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_shows_operations_and_schemas_and_runs_nothing_of_them() {
        let document = json!({
            "info": {"title": "toolgate", "version": "1", "description": "a <script>"},
            "tags": [{"name": "tools"}, {"name": "empty"}],
            "paths": {"/v1/tools": {"get": {
                "tags": ["tools"], "operationId": "list_tools", "summary": "All `tools`",
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": ["integer", "null"]}}],
                "responses": {"200": {"description": "<b>", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tool"}}}}},
            }}},
            "components": {"schemas": {"Tool": {"description": "\"<img>\""}, "Page": {"$ref": "#/components/schemas/Tool"}}},
        });
        let page = page(&document);
        for part in [
            "a &lt;script&gt;",
            "<details id=\"list_tools\">",
            "All <code>tools</code>",
            "<td>integer</td>",
            "<a href=\"#Tool\">Tool</a>",
            "<a href=\"#Tool\">#/components/schemas/Tool</a>&quot;",
            "&lt;img&gt;",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<h2>empty"), "{page}");
    }
}
