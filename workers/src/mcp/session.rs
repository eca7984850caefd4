use std::{sync::Arc, time::Duration};

use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, Implementation, ListToolsRequest, PaginatedRequestParams, ServerResult,
        Tool,
    },
    service::{NotificationContext, Peer, RunningService, ServiceError},
    transport::{
        async_rw::AsyncRwTransport,
        streamable_http_client::{StreamableHttpClientTransport, StreamableHttpClientTransportConfig},
    },
};
use tokio::{sync::Notify, time::timeout};
use toolgate_security::Redactor;

use super::{MAX_MESSAGE, McpServer, McpTransport, child, http};

/// How long a server may take to start and to say what it is.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to list its tools.
const LIST_PATIENCE: Duration = Duration::from_secs(10);
/// How long its end is waited for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Pages of its list that are read.
const MAX_PAGES: usize = 64;
/// Tools that are looked at; those that are taken are fewer.
const MAX_LISTED: usize = 4_096;

/// A conversation with a server. Dropping it ends a server that is a child.
#[derive(Debug)]
pub struct Session {
    service: RunningService<RoleClient, Handler>,
    _child: Option<child::Running>,
}

/// Why there is no conversation. The words are ours: a server's own are not for the log.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("it cannot be started: {0}")]
    Start(#[from] std::io::Error),
    #[error("it did not answer in time")]
    Timeout,
    #[error("it does not speak the protocol, or refuses to")]
    Initialize,
    #[error("it does not list its tools")]
    List,
}

/// What a server is told of us, and what we take note of. It may ask for nothing.
#[derive(Clone, Debug)]
pub struct Handler {
    pub changed: Arc<Notify>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("toolgate", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

impl Session {
    /// # Errors
    /// [`SessionError`]
    pub async fn open(server: &McpServer, redactor: &Redactor, changed: Arc<Notify>) -> Result<Self, SessionError> {
        let handler = Handler { changed };
        match &server.transport {
            McpTransport::Stdio { .. } => {
                let (stdout, stdin, running) = child::start(server, redactor)?;
                let transport = AsyncRwTransport::new(stdout, stdin).with_max_line_length(MAX_MESSAGE);
                let service = timeout(OPEN_PATIENCE, handler.serve(transport)).await.map_err(|_| SessionError::Timeout)?;
                Ok(Self { service: service.map_err(|_| SessionError::Initialize)?, _child: Some(running) })
            }
            McpTransport::Http { url, headers, egress } => {
                let config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                let client = http::Client::new(egress.clone(), headers.clone());
                let transport = StreamableHttpClientTransport::with_client(client, config);
                let service = timeout(OPEN_PATIENCE, handler.serve(transport)).await.map_err(|_| SessionError::Timeout)?;
                Ok(Self { service: service.map_err(|_| SessionError::Initialize)?, _child: None })
            }
        }
    }

    /// Whom to send calls to.
    pub fn peer(&self) -> Peer<RoleClient> {
        self.service.peer().clone()
    }

    /// The tools that the server has now, page by page.
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn tools(&self) -> Result<Vec<Tool>, SessionError> {
        timeout(LIST_PATIENCE, self.list()).await.map_err(|_| SessionError::Timeout)?.map_err(|_| SessionError::List)
    }

    async fn list(&self) -> Result<Vec<Tool>, ServiceError> {
        let (mut tools, mut cursor) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            // Not the library's own way, which may answer from its memory: the server is asked whether it is still there.
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
            let ServerResult::ListToolsResult(page) = self.service.send_request(request).await? else {
                return Err(ServiceError::UnexpectedResponse);
            };
            let room = MAX_LISTED - tools.len();
            tools.extend(page.tools.into_iter().take(room));
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() == MAX_LISTED {
                break;
            }
        }
        Ok(tools)
    }

    /// Waits until the server has gone.
    pub async fn ended(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(200));
        while !self.service.is_transport_closed() {
            looks.tick().await;
        }
    }

    /// Says goodbye, where there is still somebody.
    pub async fn close(mut self) {
        // A server that does not listen is killed with its session.
        drop(self.service.close_with_timeout(CLOSE_PATIENCE).await);
    }
}
