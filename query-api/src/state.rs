use std::{fmt, sync::Arc, time::Duration};

use axum::extract::FromRef;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use tokio::sync::watch;
use toolgate_events::Catalog;
use toolgate_security::{EventStreams, Guard, ReadPool};
use toolgate_store::{Announcements, Archive, Artifacts, Clock, Log, Streaming, StreamingMode};

use crate::{
    Error, Health,
    cursor::CursorKey,
    queries::archive::Segments,
    stream::{Feeds, Modes, SafeMode},
};

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
    pub(crate) streams: EventStreams,
    health: Health,
}

/// What a deployment chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Page cursors are sealed with a key derived from it. The same on every replica, or their cursors are strangers.
    pub cursor_secret: SecretString,
    /// How long a partition's checkpoint may stand still, while its log is ahead, before the service is not ready.
    pub stalled_after: Duration,
    /// The process's, which all of its APIs share.
    pub streams: EventStreams,
    pub safe_mode: SafeMode,
    pub clock: Clock,
}

impl Options {
    /// Ten seconds of patience with the projection.
    pub fn new(cursor_secret: SecretString, streams: EventStreams, safe_mode: SafeMode, clock: Clock) -> Self {
        Self { cursor_secret, stalled_after: Duration::from_secs(10), streams, safe_mode, clock }
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
        let health = Health::watch(log.clone(), pool.clone(), options.stalled_after, registry);
        let announcements = Announcements::open(&log).await?;
        let (choose, chosen) = watch::channel(StreamingMode::default());
        // It ends when nobody looks any more.
        tokio::spawn(Streaming::of(&log).follow(choose));
        let modes = Modes::register(options.safe_mode, chosen, registry);
        let segments = Segments::new(archive);
        Ok(Self {
            guard,
            cursors: Arc::new(CursorKey::derive(&options.cursor_secret)),
            feeds: Feeds::new(pool.clone(), segments.clone(), log.keys().clone(), announcements.clone(), modes, options.clock),
            announcements,
            streams: options.streams.clone(),
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
