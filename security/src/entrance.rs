use std::{any::Any, fmt, io, sync::Arc, time::Duration};

use axum::{
    Router, middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use toolgate_events::description::Schemas;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    Problem, ProblemKind, Violations,
    admission::{Places, hold_a_place},
    describe,
    reference::Reference,
    request_context,
    server::{ServerLimits, serve},
};

/// A client that takes nothing of an answer for so long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Says whether a part of the process can do its work, and if not, why.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The routes that an entrance has of its own, each for GET: the first three, then those that move to the `admin` listener.
pub const OWN_ROUTES: [&str; 7] =
    ["/healthz", "/readyz", "/.well-known/jwks.json", "/metrics", "/openapi.json", "/docs", "/asyncapi.json"];

/// An HTTP entrance: routes, and around them everything that holds for every request.
pub struct Entrance {
    api: OpenApiRouter,
    schemas: Schemas,
    asyncapi: Option<serde_json::Value>,
    readiness: Vec<Readiness>,
    registry: Arc<Registry>,
    violations: Violations,
    jwks: Option<String>,
    limits: EntranceLimits,
}

/// What clients are held to, whoever they are.
#[derive(Clone, Copy, Debug)]
pub struct EntranceLimits {
    /// Requests worked on at once; more are answered with 503.
    pub max_concurrent_requests: usize,
    /// Connections open at once, on each listener; more wait to be accepted.
    pub max_connections: usize,
    /// How long the head of a request may take, and how long a connection may stay idle.
    pub header_timeout: Duration,
}

impl Default for EntranceLimits {
    fn default() -> Self {
        Self { max_concurrent_requests: 2_048, max_connections: 20_000, header_timeout: Duration::from_secs(10) }
    }
}

impl Entrance {
    pub fn new(registry: Registry, violations: Violations) -> Self {
        let (api, limits) = (OpenApiRouter::new(), EntranceLimits::default());
        let (schemas, registry) = (Schemas::new(), Arc::new(registry));
        Self { api, schemas, asyncapi: None, readiness: Vec::new(), registry, violations, jwks: None, limits }
    }

    /// Holds clients to other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: EntranceLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens the routes of one API.
    #[must_use]
    pub fn with_routes(mut self, routes: OpenApiRouter) -> Self {
        self.api = self.api.merge(routes);
        self
    }

    /// Describes what the routes refer to.
    #[must_use]
    pub fn with_schemas(mut self, schemas: Schemas) -> Self {
        self.schemas.extend(schemas);
        self
    }

    /// Shows the description of the event stream.
    #[must_use]
    pub fn with_asyncapi(mut self, document: serde_json::Value) -> Self {
        self.asyncapi = Some(document);
        self
    }

    /// `/readyz` answers 200 only while every check passes.
    #[must_use]
    pub fn with_readiness(mut self, readiness: Readiness) -> Self {
        self.readiness.push(readiness);
        self
    }

    /// Shows the development issuer's public keys.
    #[must_use]
    pub fn with_jwks(mut self, jwks: String) -> Self {
        self.jwks = Some(jwks);
        self
    }

    /// Serves until `shutdown`, then finishes the requests under way, for up to 20 seconds. With an `admin` listener, metrics and the API's description
    /// are served there and not here.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn serve(self, listener: TcpListener, admin: Option<TcpListener>, shutdown: CancellationToken) -> io::Result<()> {
        let EntranceLimits { max_connections, header_timeout, .. } = self.limits;
        let limits = ServerLimits { max_connections, header_timeout, write_timeout: WRITE_TIMEOUT };
        let violations = self.violations.clone();
        let (public, about) = self.routers();
        match admin {
            None => serve(listener, guarded(public.merge(about), violations), limits, shutdown).await,
            Some(admin) => {
                let (public, about) = (guarded(public, violations.clone()), guarded(about, violations));
                let stop = shutdown.clone();
                let serving = tokio::try_join!(serve(listener, public, limits, shutdown), serve(admin, about, limits, stop));
                serving.map(|_| ())
            }
        }
    }
}

impl Entrance {
    /// The routes for everybody, and those about the service: [`OWN_ROUTES`] are all that the description leaves out.
    fn routers(self) -> (Router, Router) {
        let Self { api, schemas, asyncapi, readiness, registry, jwks, limits, .. } = self;
        let (routes, document) = api.split_for_parts();
        let document = describe(document, schemas).unwrap_or_default();
        let (reference, document) = (Reference::of(&document), document.to_string());
        // What watches over the process is answered however busy it is.
        let routes =
            routes.layer(middleware::from_fn_with_state(Places::for_requests(limits.max_concurrent_requests), hold_a_place));
        let mut public =
            routes.route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(move || ready(readiness.clone())));
        if let Some(jwks) = jwks {
            public = public.route("/.well-known/jwks.json", get(move || async move { json_text(jwks) }));
        }
        let mut about = Router::new()
            .route("/metrics", get(move || async move { metrics(&registry) }))
            .route("/openapi.json", get(move || async move { json_text(document) }))
            .route("/docs", get(move || async move { reference }));
        if let Some(asyncapi) = asyncapi.map(|document| document.to_string()) {
            about = about.route("/asyncapi.json", get(move || async move { json_text(asyncapi) }));
        }
        (public, about)
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entrance")
    }
}

fn guarded(routes: Router, violations: Violations) -> Router {
    routes
        .fallback(|| async { Problem::new(ProblemKind::NotFound, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(ProblemKind::MethodNotAllowed, "this path has other methods; see Allow")
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(violations, request_context))
}

/// The answer of a handler that panicked.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("not a text"), "a request handler panicked");
    Problem::internal().into_response()
}

async fn ready(checks: Vec<Readiness>) -> Response {
    for check in checks {
        if let Err(reason) = check().await {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
        }
    }
    "ready\n".into_response()
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, registry).is_err() {
        return Problem::internal().into_response();
    }
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::paths_of;

    #[test]
    fn an_entrance_has_no_route_that_its_table_does_not_name() {
        let entrance = || Entrance::new(Registry::default(), Violations::default());
        let (public, about) = entrance().with_jwks("{}".to_owned()).with_asyncapi(serde_json::Value::Null).routers();
        let (public, about) = (paths_of(&public), paths_of(&about));
        assert_eq!(public, OWN_ROUTES[..3].iter().map(|&path| path.to_owned()).collect::<BTreeSet<_>>());
        assert_eq!(about, OWN_ROUTES[3..].iter().map(|&path| path.to_owned()).collect::<BTreeSet<_>>());
        assert!(!paths_of(&entrance().routers().0).contains(OWN_ROUTES[2]), "the keys are shown without an issuer");
    }
}
