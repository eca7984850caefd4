//! Runs the parts of the gateway in this process.

use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::{dev_issuer::DevIssuer, services::Connections, settings::Settings};

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

/// What every role needs.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// How to reach the services.
    pub connections: Connections,
}

/// What `up` adds for running everything in one process.
#[derive(Debug)]
pub struct Everything {
    /// Bound before the services were started, so that nobody can take the port meanwhile.
    pub listener: TcpListener,
    /// Whose tokens are accepted beside those of a configured JWKS.
    pub dev_issuer: DevIssuer,
    /// Whether to load the demonstration tenant.
    pub demo: bool,
    /// Told once requests are served.
    pub ready: oneshot::Sender<()>,
}

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot listen on the configured address.
    #[error("cannot listen: {0}")]
    Listen(#[source] std::io::Error),
}

/// Runs every role in this process until `shutdown` is cancelled, then finishes what is in flight.
///
/// # Errors
/// When a role cannot start or ends by itself.
pub async fn run_all(context: &Context, everything: Everything, shutdown: CancellationToken) -> Result<(), Error> {
    // The receiver is gone only when `up` is stopping already.
    let _ = everything.ready.send(());
    tracing::debug!(listen = %context.settings.listen, demo = everything.demo, "no role runs yet");
    shutdown.cancelled().await;
    Ok(())
}

/// Runs one role until `shutdown` is cancelled, then finishes what is in flight.
///
/// # Errors
/// When the role cannot start or ends by itself.
pub async fn run_one(role: Role, context: &Context, shutdown: CancellationToken) -> Result<(), Error> {
    tracing::debug!(?role, listen = %context.settings.listen, "no role runs yet");
    shutdown.cancelled().await;
    Ok(())
}
