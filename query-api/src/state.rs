use std::{fmt, sync::Arc, time::Duration};

use axum::extract::FromRef;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use toolgate_events::Catalog;
use toolgate_security::{Guard, Places, ReadPool};
use toolgate_store::{Announcements, Archive, Artifacts, Log};

use crate::{Error, Health, cursor::CursorKey, queries::archive::Segments, stream::Feeds};

/// What the endpoints share. Clones are cheap and share everything.
#[derive(Clone)]
pub struct State {
    pub(crate) guard: Guard,
    pub(crate) pool: ReadPool,
    pub(crate) log: Log,
    pub(crate) catalog: Catalog,
    pub(crate) artifacts: Artifacts,
    pub(crate) segments: Segments,
    pub(crate) cursors: Arc<CursorKey>,
    pub(crate) announcements: Announcements,
    pub(crate) feeds: Feeds,
    /// Event streams and exports each hold one until they end.
    pub(crate) streams: Places,
    pub(crate) sse_clients: Gauge,
    pub(crate) closed: CancellationToken,
    health: Health,
}

/// What a deployment chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Page cursors are sealed with a key derived from it. The same on every replica, or their cursors are strangers.
    pub cursor_secret: SecretString,
    /// How long a partition's checkpoint may stand still, while its log is ahead, before the service is not ready.
    pub stalled_after: Duration,
    /// Connections that the listener takes; event streams and exports may have three quarters of them, one tenant's a quarter.
    pub max_connections: usize,
}

impl Options {
    /// Ten seconds of patience with the projection.
    pub fn new(cursor_secret: SecretString, max_connections: usize) -> Self {
        Self { cursor_secret, stalled_after: Duration::from_secs(10), max_connections }
    }
}

impl State {
    /// Subscribes to the projectors' announcements and starts the health monitor; both end with the last clone.
    ///
    /// # Errors
    /// [`Error::Log`] when NATS cannot be subscribed to.
    pub async fn open(
        guard: Guard,
        pool: ReadPool,
        log: Log,
        catalog: Catalog,
        (artifacts, archive): (Artifacts, Archive),
        options: &Options,
        registry: &mut Registry,
    ) -> Result<Self, Error> {
        let sse_clients = Gauge::default();
        registry.register("sse_clients", "Event streams open", sse_clients.clone());
        let health = Health::watch(log.clone(), pool.clone(), options.stalled_after, registry);
        let announcements = Announcements::open(&log).await?;
        let segments = Segments::new(archive);
        Ok(Self {
            guard,
            cursors: Arc::new(CursorKey::derive(&options.cursor_secret)),
            feeds: Feeds::new(pool.clone(), segments.clone(), log.keys().clone(), announcements.clone()),
            announcements,
            streams: Places::for_streams(options.max_connections),
            sse_clients,
            closed: CancellationToken::new(),
            health,
            pool,
            log,
            catalog,
            artifacts,
            segments,
        })
    }

    /// Why questions cannot be answered at the moment.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub async fn readiness(&self) -> Result<(), String> {
        self.health.readiness().await?;
        self.guard.verifier.readiness()
    }

    /// Ends every event stream, open or to come: without this a graceful shutdown would wait for its clients.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

impl FromRef<State> for Guard {
    fn from_ref(state: &State) -> Self {
        state.guard.clone()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("health", &self.health).finish_non_exhaustive()
    }
}
