//! A GraphQL server with the shape of BaseHub's: one endpoint, a token, and a tree of blocks of which some are lists with `first`,
//! `skip`, `orderBy` and `filter`. It runs what it is asked, and refuses what its tree does not have.

use std::sync::{Arc, Mutex};

use apollo_parser::{
    Parser,
    cst::{self, Definition, Selection},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use toolgate::settings::Settings;

use crate::app::TestApp;

pub const TOKEN: &str = "bshb_pk_canary0token1of2the3repository4";

/// How it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    Well,
    Status(u16),
    /// Leads elsewhere.
    Redirect(String),
    /// Never.
    Silent,
    /// These bytes, as JSON.
    Bytes(Vec<u8>),
}

#[derive(Clone)]
struct Shared {
    mood: Arc<Mutex<Mood>>,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    tree: Arc<Value>,
}

pub struct BaseHub {
    pub port: u16,
    shared: Shared,
}

impl BaseHub {
    pub async fn start() -> Self {
        let posts: Vec<_> = (1..=5)
            .map(|n| {
                let title = if n % 2 == 0 { format!("Tea {n}") } else { format!("Coffee {n}") };
                json!({"_id": n.to_string(), "_title": title, "_slug": format!("post-{n}"), "body": {"markdown": format!("*{n}*\u{0}")}})
            })
            .collect();
        let tree = json!({"site": {"name": "Kedai", "broken": {"$error": format!("no access with Bearer {TOKEN}")}}, "blog": {"posts": posts}});
        let shared = Shared { mood: Arc::new(Mutex::new(Mood::Well)), seen: Arc::default(), tree: Arc::new(tree) };
        let router = Router::new().fallback(any(answer)).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/graphql", self.port)
    }

    pub fn is(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// The headers of every request so far.
    pub fn seen(&self) -> Vec<HeaderMap> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// An application that asks it, with this token, and may also reach `further`.
    pub async fn app(&self, token: &str, further: &[String]) -> TestApp {
        self.app_with(token, further, |_| ()).await
    }

    pub async fn app_with(&self, token: &str, further: &[String], change: impl FnOnce(&mut Settings)) -> TestApp {
        let (url, token) = (self.url(), token.to_owned());
        let allowed = [format!("127.0.0.1:{}", self.port)].into_iter().chain(further.iter().cloned()).collect();
        TestApp::start_with(|settings| {
            settings.egress_allow = allowed;
            settings.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
            settings.basehub_url = Some(url);
            settings.basehub_token = Some(token.into());
            change(settings);
        })
        .await
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    shared.seen.lock().unwrap().push(headers.clone());
    let mood = shared.mood.lock().unwrap().clone();
    match mood {
        Mood::Status(status) => return (StatusCode::from_u16(status).unwrap(), "<html>no</html>").into_response(),
        Mood::Redirect(to) => return (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Bytes(bytes) => return ([("content-type", "application/json")], bytes).into_response(),
        Mood::Well => {}
    }
    if headers.get("authorization").is_none_or(|value| value != &format!("Bearer {TOKEN}")) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"errors": [{"message": "Unauthorized"}]}))).into_response();
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let mut run = Run { variables: request["variables"].clone(), errors: Vec::new() };
    match run.document(request["query"].as_str().unwrap(), request["operationName"].as_str(), &shared.tree) {
        Ok(data) if run.errors.is_empty() => Json(json!({"data": data})).into_response(),
        Ok(data) => Json(json!({"data": data, "errors": run.errors})).into_response(),
        Err(message) => (StatusCode::BAD_REQUEST, Json(json!({"errors": [{"message": message}]}))).into_response(),
    }
}

struct Run {
    variables: Value,
    errors: Vec<Value>,
}

impl Run {
    fn document(&mut self, text: &str, operation: Option<&str>, tree: &Value) -> Result<Value, String> {
        let parsed = Parser::new(text).parse();
        assert_eq!(parsed.errors().count(), 0, "{text}");
        let mut queries = parsed.document().definitions().filter_map(|definition| match definition {
            Definition::OperationDefinition(query) => Some(query),
            _ => None,
        });
        let is_meant =
            |query: &cst::OperationDefinition| operation.is_none_or(|name| query.name().unwrap().text().as_str() == name);
        let query = queries.find(is_meant).ok_or("Unknown operation")?;
        self.select(&query.selection_set().unwrap(), tree, &[])
    }

    fn select(&mut self, set: &cst::SelectionSet, of: &Value, path: &[Value]) -> Result<Value, String> {
        let mut result = Map::new();
        for selection in set.selections() {
            let Selection::Field(field) = selection else { return Err("fragments are for others".to_owned()) };
            let name = field.name().unwrap().text().to_string();
            let shown = field.alias().map_or_else(|| name.clone(), |alias| alias.name().unwrap().text().to_string());
            let path = [path, &[json!(shown)]].concat();
            let member = of.get(&name).ok_or_else(|| format!("Cannot query field \"{name}\""))?;
            let member = match member {
                Value::Array(items) if name != "items" => self.list(items, field.arguments()),
                other => other.clone(),
            };
            let value = match (&member, field.selection_set()) {
                (Value::Object(error), _) if error.contains_key("$error") => {
                    self.errors.push(json!({"message": error["$error"], "path": path, "extensions": {"internal": "secret"}}));
                    Value::Null
                }
                (Value::Array(items), Some(set)) => {
                    items.iter().map(|item| self.select(&set, item, &path)).collect::<Result<_, _>>()?
                }
                (Value::Object(_), None) => return Err(format!("Field \"{name}\" must have a selection of subfields")),
                (_, Some(set)) => self.select(&set, &member, &path)?,
                (_, None) => member,
            };
            result.insert(shown, value);
        }
        Ok(result.into())
    }

    /// A list block as it is queried.
    fn list(&self, items: &[Value], arguments: Option<cst::Arguments>) -> Value {
        let arguments: Map<_, _> = arguments
            .into_iter()
            .flat_map(|arguments| arguments.arguments().collect::<Vec<_>>())
            .map(|argument| (argument.name().unwrap().text().to_string(), self.value(argument.value().unwrap())))
            .collect();
        let mut filtered = items.to_vec();
        for (field, condition) in arguments.get("filter").and_then(Value::as_object).into_iter().flatten() {
            let field = field.replace("_sys", "");
            filtered.retain(|item| match (condition["contains"].as_str(), condition["eq"].as_str()) {
                (Some(part), _) => item[&field].as_str().unwrap().contains(part),
                (_, Some(whole)) => item[&field] == *whole,
                _ => true,
            });
        }
        if arguments.get("orderBy").is_some_and(|order| order == "_sys_createdAt__DESC") {
            filtered.reverse();
        }
        let number = |name: &str, otherwise: usize| {
            arguments.get(name).and_then(Value::as_u64).map_or(otherwise, |number| usize::try_from(number).unwrap())
        };
        let page: Vec<_> = filtered.iter().skip(number("skip", 0)).take(number("first", 500)).collect();
        json!({"items": page, "_meta": {"totalCount": items.len(), "filteredCount": filtered.len()}})
    }

    fn value(&self, value: cst::Value) -> Value {
        match value {
            cst::Value::Variable(variable) => self.variables[variable.name().unwrap().text().as_str()].clone(),
            cst::Value::StringValue(text) => json!(String::from(text)),
            cst::Value::EnumValue(name) => json!(name.name().unwrap().text().to_string()),
            cst::Value::ObjectValue(object) => object
                .object_fields()
                .map(|field| (field.name().unwrap().text().to_string(), self.value(field.value().unwrap())))
                .collect::<Map<_, _>>()
                .into(),
            _ => Value::Null,
        }
    }
}
