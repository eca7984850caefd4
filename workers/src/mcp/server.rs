use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, CallToolResult, MetaObject, RequestMetaObject},
    service::{Peer, ServiceError},
};
use serde_json::{Map, Value, json};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use toolgate_events::{CallId, TenantId, mcp::clean, tools::Upstream};
use toolgate_security::Redactor;

use super::{
    McpServer, Up,
    discovery::{Discovery, Usable},
    pace::Pace,
    places::Places,
    session::{Session, SessionError},
};
use crate::adapters::ToolError;

/// Between two questions that a server asks for itself.
pub const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Where a call's id is told to the server.
const IDEMPOTENCY_KEY: &str = "toolgate/idempotency-key";
/// Characters of a server's own words in the record of a failed call.
const MAX_WORDS: usize = 2_000;

/// One server: a task keeps a session with it, calls go over that.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    config: McpServer,
    /// Nothing while there is no session.
    live: RwLock<Option<Live>>,
    places: Places,
    /// Told when the server says that its tools have changed, or a call was not answered.
    check: Arc<Notify>,
}

/// What a session has found.
#[derive(Debug)]
struct Live {
    peer: Peer<RoleClient>,
    /// Hashes of the definitions, by the server's own names.
    tools: HashMap<String, String>,
}

impl Server {
    /// Begins to keep a session.
    pub fn start(
        config: McpServer,
        discovery: Arc<Discovery>,
        redactor: Redactor,
        refresh: Duration,
        places: usize,
        up: Up,
    ) -> Self {
        let shared = Arc::new(Shared { config, live: RwLock::default(), places: Places::new(places), check: Arc::default() });
        let task = keep(Arc::clone(&shared), discovery, redactor, refresh, up);
        Self { shared, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// Calls a tool, if the server still says of it what is pinned. Dropping the future tells the server that nobody waits.
    pub async fn call(
        &self,
        upstream: &Upstream,
        tenant: TenantId,
        call_id: CallId,
        arguments: Map<String, Value>,
    ) -> Result<CallToolResult, ToolError> {
        let _place = self.shared.places.take(tenant).await?;
        let peer = {
            let live = self.shared.live.read().unwrap_or_else(PoisonError::into_inner);
            let Some(live) = live.as_ref() else { return Err(unavailable("the MCP server cannot be reached")) };
            if live.tools.get(&upstream.tool) != Some(&upstream.definition_sha256) {
                return Err(ToolError::Quarantined);
            }
            live.peer.clone()
        };
        let key = Map::from_iter([(IDEMPOTENCY_KEY.to_owned(), json!(call_id.to_string()))]);
        let mut params = CallToolRequestParams::new(upstream.tool.clone()).with_arguments(arguments);
        params.meta = Some(RequestMetaObject(MetaObject(key)));
        let unanswered = Unanswered(Some(&self.shared.check));
        let answer = peer.call_tool(params).await;
        if matches!(answer, Ok(_) | Err(ServiceError::McpError(_))) {
            unanswered.settle();
        }
        answer.map_err(|error| failed(&error))
    }
}

/// Asks for a look at the server unless the call was answered: also when nobody waited for the answer any longer.
struct Unanswered<'a>(Option<&'a Notify>);

impl Unanswered<'_> {
    fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(check) = self.0 {
            check.notify_one();
        }
    }
}

fn unavailable(detail: &str) -> ToolError {
    ToolError::Upstream { detail: detail.to_owned(), sent: false }
}

fn failed(error: &ServiceError) -> ToolError {
    let detail = match error {
        ServiceError::McpError(error) => {
            let words: String = clean(&error.message).chars().take(MAX_WORDS).collect();
            return ToolError::Reported(words);
        }
        ServiceError::UnexpectedResponse => "the MCP server's answer is not one to this call",
        _ => "the MCP server did not answer",
    };
    ToolError::Upstream { detail: detail.to_owned(), sent: true }
}

/// Opens a session, keeps it as long as it lasts, and opens the next.
async fn keep(shared: Arc<Shared>, discovery: Arc<Discovery>, redactor: Redactor, refresh: Duration, up: Up) {
    let server = shared.config.name.as_str();
    let mut pause = FIRST_PAUSE;
    let mut was_up = true;
    let mut pace = Pace::default();
    loop {
        let ended = match Session::open(&shared.config, &redactor, Arc::clone(&shared.check)).await {
            Ok(session) => {
                let ended = follow(&shared, &session, &discovery, refresh, &up, &mut pace).await;
                if shared.set_live(None) {
                    pause = FIRST_PAUSE;
                    was_up = true;
                }
                up.set(false);
                session.close().await;
                ended
            }
            Err(error) => error.to_string(),
        };
        // That it is still away is no news.
        if was_up {
            tracing::warn!(server, reason = ended, "an MCP server is down; trying again");
        }
        was_up = false;
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Asks for the tools again and again, until there is no answer.
async fn follow(
    shared: &Shared,
    session: &Session,
    discovery: &Discovery,
    refresh: Duration,
    up: &Up,
    pace: &mut Pace,
) -> String {
    let server = shared.config.name.as_str();
    let mut left_out = None;
    loop {
        let tools = tokio::select! {
            tools = session.tools() => tools,
            () = session.ended() => return "it has ended".to_owned(),
        };
        let usable = match tools {
            Ok(tools) => Usable::of(&shared.config, tools),
            Err(error) => return error.to_string(),
        };
        let tools: HashMap<_, _> = usable.tools.values().map(|definition| (definition.name.clone(), definition.hash())).collect();
        let now = Instant::now();
        let may_write = pace.may_write(&tools, now, refresh);
        // First of all: from here on a changed tool is not called.
        if !shared.set_live(Some(Live { peer: session.peer(), tools })) {
            tracing::info!(server, tools = usable.tools.len(), "an MCP server is up");
        }
        up.set(true);
        if left_out.as_ref() != Some(&usable.left_out) {
            for (reason, count) in &usable.left_out {
                tracing::warn!(server, count, reason, "tools of an MCP server are left out");
            }
            left_out = Some(usable.left_out.clone());
        }
        let put_down = if may_write { discovery.put_down(&shared.config, &usable).await } else { Ok(0) };
        match put_down {
            Ok(0) => {}
            Ok(count) => tracing::warn!(server, count, "tools of an MCP server are left out: it has had too many; forget some"),
            Err(error) => tracing::warn!(server, error = %error, "definitions of MCP tools could not be put down"),
        }
        // What was not put down is, as soon as it may be.
        let wait = if may_write { refresh } else { pace.until(now).min(refresh) };
        tokio::select! {
            () = sleep(SHORTEST_REFRESH) => {}
            () = session.ended() => return "it has ended".to_owned(),
        }
        tokio::select! {
            _ = timeout(wait, shared.check.notified()) => {}
            () = session.ended() => return "it has ended".to_owned(),
        }
    }
}

impl Shared {
    /// Whether there was a session before.
    fn set_live(&self, live: Option<Live>) -> bool {
        let mut place = self.live.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, live).is_some()
    }
}

impl From<SessionError> for String {
    fn from(error: SessionError) -> Self {
        error.to_string()
    }
}
