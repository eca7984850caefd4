//! The documented answers: one row a route. A new endpoint gets its row here, or the census fails.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{Client, task};

/// One route and who may use it.
#[derive(Debug)]
pub struct Route {
    pub verb: &'static str,
    pub path: &'static str,
    /// What a token needs to grant, separated by spaces.
    pub permission: &'static str,
    /// The built-in roles that have it; every other one is 403.
    pub roles: &'static [&'static str],
    /// The status for whoever may.
    pub allowed: u16,
    /// The status for an administrator of another tenant, who asks for the owner's things.
    pub stranger: u16,
    pub body: Option<fn() -> Value>,
    /// What somebody else's tenant holds, as a stranger sees it.
    pub sight: Sight,
}

/// What a stranger sees of a tenant on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The route names one thing, which looks as if it had never been.
    One,
    /// A list, which is empty.
    List,
    /// Lines, of which there are none.
    Lines,
    /// Events, of which none is the owner's.
    Events,
    /// Sums, of nothing.
    Sums,
    /// Nothing that belongs to any tenant.
    Nobodys,
    /// A call of the stranger's own.
    Own,
    /// Nothing: only messages that are signed are taken, and no token opens it. Where no secret is set up, nothing is there.
    Signed,
}

const ALL: &[&str] = &["agent", "viewer", "auditor", "admin"];
const CALLERS: &[&str] = &["agent", "admin"];
const AUDITORS: &[&str] = &["auditor", "admin"];

const fn get(path: &'static str, permission: &'static str, roles: &'static [&'static str], sight: Sight) -> Route {
    let stranger = if matches!(sight, Sight::One) { 404 } else { 200 };
    Route { verb: "GET", path, permission, roles, allowed: 200, stranger, body: None, sight }
}

const fn request(path: &'static str) -> Route {
    let permission = "tool.task.create:invoke";
    Route { verb: "POST", path, permission, roles: CALLERS, allowed: 202, stranger: 202, body: Some(task), sight: Sight::Own }
}

pub const ROUTES: &[Route] = &[
    request("/v1/tool-calls"),
    request("/tool-call"),
    Route { allowed: 200, stranger: 200, ..request("/v1/agent-stream") },
    // The owner's call has its outcome.
    Route {
        verb: "POST",
        path: "/v1/tool-calls/{call_id}/cancel",
        permission: "tool_call:cancel",
        roles: CALLERS,
        allowed: 409,
        stranger: 404,
        body: None,
        sight: Sight::One,
    },
    Route {
        verb: "POST",
        path: "/v1/webhooks/basehub",
        permission: "",
        roles: ALL,
        allowed: 404,
        stranger: 404,
        body: None,
        sight: Sight::Signed,
    },
    get("/v1/tool-calls", "tool_call:read", ALL, Sight::List),
    get("/v1/tool-calls/{call_id}", "tool_call:read", ALL, Sight::One),
    get("/v1/tool-calls/{call_id}/events", "tool_call:read", ALL, Sight::One),
    get("/v1/events", "event:subscribe", ALL, Sight::Events),
    get("/v1/sessions", "tool_call:read", ALL, Sight::List),
    get("/v1/sessions/{session_id}", "tool_call:read", ALL, Sight::One),
    get("/v1/sessions/{session_id}/events", "event:subscribe", ALL, Sight::Events),
    get("/v1/usage", "tool_call:read", ALL, Sight::Sums),
    get("/v1/audit", "audit:read", AUDITORS, Sight::List),
    get("/v1/audit/replay", "audit:replay", AUDITORS, Sight::Events),
    get("/v1/audit/export", "audit:export", AUDITORS, Sight::Lines),
    get("/v1/tools", "tool:list", CALLERS, Sight::Nobodys),
    // The contract of a tool that the caller may not invoke is 404.
    get("/v1/tools/{name}", "tool:list tool.task.create:invoke", CALLERS, Sight::Nobodys),
    get("/v1/tasks", "tool_call:read", ALL, Sight::List),
    get("/v1/documents", "tool_call:read", ALL, Sight::List),
    get("/v1/artifacts/{artifact_id}", "artifact:read", ALL, Sight::One),
];

/// One of everything that a tenant can own.
#[derive(Clone, Debug)]
pub struct Furniture {
    pub call: String,
    pub artifact: String,
    /// As it stands in a path.
    pub session: String,
}

impl Furniture {
    pub async fn make(client: &Client) -> Self {
        let in_session = json!({"tool": "task.create", "arguments": {"title": "secret"}, "session_id": "a/secret"});
        let call = client.call_and_wait(&toolgate_store::Clock::system().new_id().to_string(), &in_session).await.json();
        client.get_projected(&call).await;
        let task = client.result_of("task.create", json!({"title": "secret"})).await;
        client.result_of("task.update", json!({"task_id": task["task_id"], "comment": "secret"})).await;
        client.result_of("knowledge.upsert", json!({"document_id": "d", "title": "secret", "content": "secret"})).await;
        client.result_of("template.upsert", json!({"template_id": "t", "markdown": "secret"})).await;
        let arguments = json!({"title": "secret", "markdown": "secret", "format": "html"});
        let rendered = client.result_of("document.render", arguments).await;
        let items = json!([{"id": "secret", "vector": [1], "text": "secret"}]);
        client.result_of("vector.upsert", json!({"collection": "secret", "items": items})).await;
        let calls = client.get("/v1/tool-calls").await.json();
        Self {
            call: calls["items"][0]["call_id"].as_str().unwrap().to_owned(),
            artifact: rendered["artifact_id"].as_str().unwrap().to_owned(),
            session: "a%2Fsecret".to_owned(),
        }
    }

    /// The same places, where nothing ever was.
    pub fn of_nobody() -> Self {
        let id = Uuid::from_u128(1).to_string();
        Self { call: id.clone(), artifact: id.clone(), session: id }
    }

    /// A route's path with these things in it.
    pub fn fill(&self, path: &str) -> String {
        let path = path.replace("{call_id}", &self.call).replace("{artifact_id}", &self.artifact);
        path.replace("{session_id}", &self.session).replace("{name}", "task.create")
    }
}
