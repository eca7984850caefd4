//! Runs the parts of the gateway in this process.

mod access;
mod demo;
mod parts;
mod shared_counters;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use toolgate_projector::audit_checkpoints::AuditCheckpoints;
use toolgate_security::{Entrance, EntranceLimits, EventStreams, Readiness, Violations};
use toolgate_store::User;

use self::parts::Parts;
pub use self::parts::{projector_environment, read_pool};
use crate::{
    dev_issuer::DevIssuer,
    services::{Connections, PostgresRole},
    settings::Settings,
};

/// A part of the gateway that can run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts commands.
    CommandApi,
    /// Answers queries.
    QueryApi,
    /// Runs tools.
    Worker,
    /// Writes read models.
    Projector,
}

impl Role {
    /// The user of NATS that the role is.
    pub fn user(self) -> User {
        match self {
            Self::CommandApi => User::CommandApi,
            Self::QueryApi => User::QueryApi,
            Self::Worker => User::Worker,
            Self::Projector => User::Projector,
        }
    }

    /// The login to the database that the role works with, if any.
    pub fn login(self) -> Option<PostgresRole> {
        match self {
            Self::CommandApi => None,
            Self::QueryApi | Self::Worker => Some(PostgresRole::Reader),
            Self::Projector => Some(PostgresRole::Projector),
        }
    }
}

/// What every role needs.
#[derive(Debug)]
pub struct Context {
    pub settings: Settings,
    /// How to reach the services.
    pub connections: Connections,
}

/// What `up` adds for running everything in one process.
#[derive(Debug)]
pub struct Everything {
    /// Bound before the services were started, so that nobody can take the port meanwhile.
    pub listener: TcpListener,
    /// Whose tokens are accepted when no JWKS is configured.
    pub dev_issuer: DevIssuer,
    /// Whether to load the demonstration tenant.
    pub demo: bool,
    /// Told once requests are served.
    pub ready: oneshot::Sender<()>,
}

/// Why a role cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the HTTP server stopped: {0}")]
    Serve(#[source] std::io::Error),
    #[error(transparent)]
    Log(#[from] toolgate_store::LogError),
    #[error("cannot set up the lanes: {0}")]
    Lanes(#[from] toolgate_store::ConsumeError),
    #[error("cannot open the artifacts: {0}")]
    Artifacts(#[from] toolgate_store::ArtifactError),
    #[error("cannot use the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("cannot read {path}: {source}")]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error("the built-in policy: {0}")]
    Policy(#[from] toolgate_security::PolicyError),
    #[error(transparent)]
    PolicyFile(#[from] toolgate_security::PolicyFileError),
    #[error("the token keys of {name}: {source}")]
    Keys { name: String, source: toolgate_security::ReadError },
    #[error(transparent)]
    Revocations(#[from] toolgate_store::RevocationError),
    #[error(transparent)]
    Definitions(#[from] toolgate_store::DefinitionsError),
    #[error(transparent)]
    Query(#[from] toolgate_query_api::Error),
    #[error("no keys to check tokens with: set TOOLGATE_JWKS_URL or TOOLGATE_JWKS_FILE")]
    NoKeys,
    #[error("the setting `lanes` names {0:?}, which no tool runs in")]
    UnknownLane(String),
    #[error(transparent)]
    Issuer(#[from] crate::dev_issuer::Error),
    #[error("the {0} ended by itself; the log lines above say why")]
    Ended(&'static str),
    #[error("tools cannot send requests to the outside: {0}")]
    Egress(String),
    #[error("the setting `task_webhook_url` cannot be used: {0}")]
    Webhook(toolgate_security::EgressRule),
    #[error(transparent)]
    AuditKey(#[from] crate::audit_key::Error),
    #[error("audit checkpoints need a key to be signed with: set `audit_key_file`")]
    NoAuditKey,
    #[error("cannot open the bucket of audit checkpoints; `toolgate migrate` makes it: {0}")]
    CheckpointBucket(#[source] toolgate_store::ArtifactError),
    #[error("the setting `audit_checkpoint_url` cannot be used: {0}")]
    CheckpointWebhook(toolgate_security::EgressRule),
    #[error("the demonstration tenant cannot be loaded: {0}")]
    Demo(String),
}

/// Runs every role in this process until `shutdown` is cancelled, then finishes what is in flight.
///
/// # Errors
/// When a role cannot start or ends by itself.
pub async fn run_all(context: &Context, everything: Everything, shutdown: CancellationToken) -> Result<(), Error> {
    let Everything { listener, dev_issuer, demo, ready } = everything;
    let mut registry = Registry::default();
    let violations = Violations::register(&mut registry);
    let parts = Parts::new(context, Some(&dev_issuer), violations.clone());
    let projector = parts.projector(&mut registry).await?;
    let worker = parts.worker(&mut registry).await?;
    let command_api = parts.command_api(&mut registry).await?;
    let query_api = parts.query_api(&mut registry).await?;
    end_streams_with(parts.streams(&mut registry), &shutdown);
    let admin = bind_admin(&context.settings).await?;
    let mut entrance = Entrance::new(registry, violations)
        .with_limits(entrance_limits(&context.settings))
        .with_routes(toolgate_command_api::router(command_api.clone()))
        .with_schemas(toolgate_command_api::schemas())
        .with_routes(toolgate_query_api::router(query_api.clone()))
        .with_schemas(toolgate_query_api::schemas())
        .with_asyncapi(toolgate_query_api::asyncapi())
        .with_readiness(command_readiness(command_api.clone()))
        .with_readiness(query_readiness(query_api.clone()));
    let trusts_itself = context.settings.trusts_dev_issuer();
    if trusts_itself {
        entrance = entrance.with_jwks(parts::jwks_document(&dev_issuer)?);
    }

    // The background roles outlive the entrance: what it accepted last is still worked on while it drains.
    let background = CancellationToken::new();
    let working = in_background(worker.run(background.clone()), background.clone(), shutdown.clone());
    let projecting = in_background(projector.run(background.clone()), background.clone(), shutdown.clone());
    let serving = async {
        let served = entrance.serve(listener, admin, shutdown.clone()).await;
        command_api.close().await;
        background.cancel();
        served.map_err(Error::Serve)
    };
    let announcing = async {
        let loading = async { if demo && trusts_itself { demo::load(&context.settings, &dev_issuer).await } else { Ok(()) } };
        let loaded = shutdown.run_until_cancelled(loading).await.unwrap_or(Ok(()));
        match &loaded {
            // The receiver is gone only when `up` is stopping already.
            Ok(()) => drop(ready.send(())),
            Err(_) => shutdown.cancel(),
        }
        loaded
    };
    let (served, announced) = tokio::join!(serving, announcing);
    let (worked, projected) = (working.await, projecting.await);
    announced.and(served)?;
    match (worked, projected) {
        (Ok(true), Ok(true)) => Ok(()),
        (Ok(true), _) => Err(Error::Ended("projector")),
        _ => Err(Error::Ended("worker")),
    }
}

/// Runs a background role. Its end, by whatever cause, ends the whole process: a gateway that accepts calls and never runs them
/// would be worse than none. True when it ended because it was told to.
fn in_background(
    role: impl Future<Output = ()> + Send + 'static,
    told: CancellationToken,
    shutdown: CancellationToken,
) -> JoinHandle<bool> {
    tokio::spawn(async move {
        let _ends_everything = shutdown.drop_guard();
        role.await;
        told.is_cancelled()
    })
}

/// Runs one role until `shutdown` is cancelled, then finishes what is in flight.
///
/// # Errors
/// When the role cannot start or ends by itself.
pub async fn run_one(role: Role, context: &Context, shutdown: CancellationToken) -> Result<(), Error> {
    let settings = &context.settings;
    let mut registry = Registry::default();
    let violations = Violations::register(&mut registry);
    // Only the APIs need keys, and they say so when there are none.
    if settings.trusts_dev_issuer() && matches!(role, Role::CommandApi | Role::QueryApi) {
        tracing::warn!("neither jwks_file nor jwks_url is set: tokens of the development key are accepted");
    }
    let dev_issuer = DevIssuer::load(&settings.data_dir).ok();
    let parts = Parts::new(context, dev_issuer.as_ref(), violations.clone());
    match role {
        Role::CommandApi => {
            let state = parts.command_api(&mut registry).await?;
            end_streams_with(parts.streams(&mut registry), &shutdown);
            let entrance = Entrance::new(registry, violations)
                .with_limits(entrance_limits(settings))
                .with_routes(toolgate_command_api::router(state.clone()))
                .with_schemas(toolgate_command_api::schemas())
                .with_readiness(command_readiness(state.clone()));
            let served = serve(settings, entrance, shutdown).await;
            state.close().await;
            served
        }
        Role::QueryApi => {
            let state = parts.query_api(&mut registry).await?;
            end_streams_with(parts.streams(&mut registry), &shutdown);
            let entrance = Entrance::new(registry, violations)
                .with_limits(entrance_limits(settings))
                .with_routes(toolgate_query_api::router(state.clone()))
                .with_schemas(toolgate_query_api::schemas())
                .with_asyncapi(toolgate_query_api::asyncapi())
                .with_readiness(query_readiness(state));
            serve(settings, entrance, shutdown).await
        }
        Role::Worker => {
            let worker = parts.worker(&mut registry).await?;
            beside_metrics(settings, Entrance::new(registry, violations), worker.run(shutdown.clone()), &shutdown).await
        }
        Role::Projector => {
            let projector = parts.projector(&mut registry).await?;
            beside_metrics(settings, Entrance::new(registry, violations), projector.run(shutdown.clone()), &shutdown).await
        }
    }
}

/// What signs audit checkpoints, for whoever wants some now; `None` without a key.
///
/// # Errors
/// When the log, the key or one of the places for checkpoints cannot be opened.
pub async fn audit_checkpoints(context: &Context) -> Result<Option<AuditCheckpoints>, Error> {
    let mut registry = Registry::default();
    let violations = Violations::register(&mut registry);
    Parts::new(context, None, violations).audit_checkpoints_alone(&mut registry).await
}

async fn serve(settings: &Settings, entrance: Entrance, shutdown: CancellationToken) -> Result<(), Error> {
    let listener = bind(settings.listen).await?;
    let admin = bind_admin(settings).await?;
    entrance.serve(listener, admin, shutdown).await.map_err(Error::Serve)
}

/// Roles without an API of their own listen only when asked to, for health and metrics.
async fn beside_metrics(
    settings: &Settings,
    entrance: Entrance,
    role: impl Future<Output = ()>,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let Some(admin) = bind_admin(settings).await? else {
        role.await;
        return Ok(());
    };
    let stop = shutdown.clone();
    let ((), served) = tokio::join!(role, entrance.serve(admin, None, stop));
    served.map_err(Error::Serve)
}

/// A stream never ends by itself, so a drain would wait for its client.
fn end_streams_with(streams: EventStreams, shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        streams.close();
    });
}

fn entrance_limits(settings: &Settings) -> EntranceLimits {
    EntranceLimits {
        max_concurrent_requests: settings.max_concurrent_requests,
        max_connections: settings.max_connections,
        header_timeout: Duration::from_millis(settings.header_timeout_ms),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

async fn bind_admin(settings: &Settings) -> Result<Option<TcpListener>, Error> {
    match settings.admin_addr {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

fn command_readiness(state: toolgate_command_api::State) -> Readiness {
    Arc::new(move || {
        let ready = state.readiness();
        Box::pin(std::future::ready(ready))
    })
}

fn query_readiness(state: toolgate_query_api::State) -> Readiness {
    Arc::new(move || {
        let state = state.clone();
        Box::pin(async move { state.readiness().await })
    })
}
