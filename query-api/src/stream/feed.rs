use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use toolgate_events::TenantId;
use toolgate_security::{ReadPool, Shares, TenantTx};
use toolgate_store::{Announcements, Clock, Keyring};

use super::{
    client::{ClientFilter, Resume},
    course::Live,
    mode::{FeedMode, Mode, Modes},
    rendered::Rendered,
    tail::Tail,
};
use crate::{
    Error,
    opening::open_row,
    queries::{
        archive::Segments,
        audit::{self, AuditFilter, Bounds, Stretch},
        positions,
    },
};

/// Rows read at once at the most, whether for everybody or for one client's history.
pub(super) const PAGE: usize = 200;
/// Bytes of their data at the most, unless one row alone has more.
pub(super) const PAGE_DATA: usize = audit::MAX_STREAMED_DATA;
/// The same for the pages of all of a tenant's clients together, which makes each smaller where there are many.
pub(super) const PAGES_DATA: usize = 16 * 1024 * 1024;
/// Pages of history of one tenant that are read at the same time; more wait for their turn. It is fewer than the connections that a
/// tenant may hold: the feed itself, and questions, find one.
const HISTORIES: usize = 3;
/// How long somebody may wait for a feed to begin.
const PATIENCE: Duration = Duration::from_secs(5);
/// Announcements may be lost: a feed also looks by itself this often.
const SAFETY_INTERVAL: Duration = Duration::from_secs(1);

type Tails = Arc<Mutex<HashMap<TenantId, Arc<Tail>>>>;

/// One reading of each tenant that somebody listens to, however many listen.
#[derive(Clone)]
pub(crate) struct Feeds {
    pool: ReadPool,
    segments: Segments,
    keys: Keyring,
    announcements: Announcements,
    pub(super) modes: Modes,
    clock: Clock,
    tails: Tails,
    /// Whoever makes a tenant's feed begin: one at a time, so that a crowd asks the database once.
    beginnings: Shares,
    histories: Shares,
}

/// What one feed goes on with.
struct Feed {
    tenant: TenantId,
    tail: Arc<Tail>,
    position: u64,
    mode: FeedMode,
}

impl Feeds {
    pub(crate) fn new(
        pool: ReadPool,
        segments: Segments,
        keys: Keyring,
        announcements: Announcements,
        modes: Modes,
        clock: Clock,
    ) -> Self {
        let (beginnings, histories) = (Shares::new(1), Shares::new(HISTORIES));
        Self { pool, segments, keys, announcements, modes, clock, tails: Tails::default(), beginnings, histories }
    }

    /// A place among the tenant's listeners, and where a stream begins: after the position that was asked for, if any. Where the
    /// feed has told that position already, nothing is read.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub(super) async fn listen(
        &self,
        tenant: TenantId,
        filter: &ClientFilter,
        asked: Option<u64>,
    ) -> Result<(Live, Resume), Error> {
        let live = self.subscribe(tenant, filter.session_id.as_deref()).await?;
        let resume = match Resume::told(asked, positions::OLDEST, live.tail.position()) {
            Some(resume) => resume,
            None => Resume::of(asked, positions::OLDEST, newest(&self.pool, tenant).await?),
        };
        Ok((live, resume))
    }

    /// The tenant's events from now on: everything that is not in the database when this returns will come.
    async fn subscribe(&self, tenant: TenantId, session_id: Option<&str>) -> Result<Live, Error> {
        if let Some(live) = self.live(tenant, session_id) {
            return Ok(live);
        }
        let _turn = timeout(PATIENCE, self.beginnings.take(tenant)).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        if let Some(live) = self.live(tenant, session_id) {
            return Ok(live);
        }
        // Read before the feed begins: whoever reads the database afterwards reads at least this far.
        let begin = newest(&self.pool, tenant).await?;
        let mut mode = FeedMode::new(self.modes.clone());
        let tail = Arc::new(Tail::after(begin, mode.observe(Duration::ZERO, Instant::now())));
        // Before the feed runs: it ends when nobody listens.
        let live = Live::to(&tail, session_id);
        self.tails().insert(tenant, Arc::clone(&tail));
        tokio::spawn(self.clone().run(Feed { tenant, tail, position: begin, mode }));
        Ok(live)
    }

    fn live(&self, tenant: TenantId, session_id: Option<&str>) -> Option<Live> {
        self.tails().get(&tenant).map(|tail| Live::to(tail, session_id))
    }

    /// Feeds a tenant's listeners until the last has left.
    async fn run(self, mut feed: Feed) {
        let mut following = self.announcements.follow(feed.tenant);
        while !self.ends(&feed) {
            match self.read(&mut feed).await {
                Ok(has_more) if has_more => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %error, "cannot read new events; trying again"),
            }
            feed.tail.forget(Instant::now());
            match feed.tail.mode() {
                Mode::Normal => tokio::select! {
                    () = following.changed(SAFETY_INTERVAL) => {}
                    () = feed.mode.rechosen() => {}
                },
                // Whatever is announced meanwhile goes out with the next burst.
                Mode::Safe(_) => tokio::select! {
                    () = sleep(self.modes.safe.interval) => {}
                    () = feed.mode.rechosen() => {}
                },
            }
        }
    }

    /// Reads the next page, and says whether there is more.
    async fn read(&self, feed: &mut Feed) -> Result<bool, Error> {
        let stretch = Stretch::after(feed.position);
        let bounds = Bounds { rows: PAGE, data: PAGE_DATA };
        let (events, has_more) = self.read_page(feed.tenant, &AuditFilter::default(), None, stretch, bounds).await?;
        // That an event comes late tells that the projection is late; that none comes tells nothing of the kind.
        let late = |newest: &Arc<Rendered>| (self.clock.now() - newest.occurred_at).to_std().unwrap_or_default();
        let age = events.last().map_or(Duration::ZERO, late);
        feed.tail.set_mode(feed.mode.observe(age, Instant::now()));
        feed.position = events.last().map_or(feed.position, |newest| newest.position);
        feed.tail.extend(events, Instant::now());
        Ok(has_more)
    }

    /// Under the lock, so that nobody subscribes to a feed that has just ended.
    fn ends(&self, feed: &Feed) -> bool {
        let mut tails = self.tails();
        let is_deserted = feed.tail.listeners() == 0;
        if is_deserted {
            tails.remove(&feed.tenant);
        }
        is_deserted
    }

    /// One page of history with its content, and whether more follows. Whoever asks while many do waits for a turn.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Keys`] and those of the archive
    pub(super) async fn history(
        &self,
        tenant: TenantId,
        filter: &AuditFilter,
        session_id: Option<&str>,
        stretch: Stretch,
        bounds: Bounds,
    ) -> Result<(Vec<Arc<Rendered>>, bool), Error> {
        let _turn = self.histories.take(tenant).await;
        self.read_page(tenant, filter, session_id, stretch, bounds).await
    }

    async fn read_page(
        &self,
        tenant: TenantId,
        filter: &AuditFilter,
        session_id: Option<&str>,
        stretch: Stretch,
        bounds: Bounds,
    ) -> Result<(Vec<Arc<Rendered>>, bool), Error> {
        let place = (&self.pool, tenant);
        let (mut rows, has_more) = audit::streamed_page(place, &self.segments, filter, session_id, stretch, bounds).await?;
        for row in &mut rows {
            open_row(&self.keys, tenant, &mut row.audit).await?;
        }
        let rendered = rows.into_iter().map(|row| Rendered::new(tenant.0, row).map(Arc::new)).collect::<Result<_, _>>();
        let rendered = rendered.map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((rendered, has_more))
    }

    fn tails(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Arc<Tail>>> {
        // The map stays consistent whatever panicked while holding it.
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tenant's newest position.
async fn newest(pool: &ReadPool, tenant: TenantId) -> Result<u64, Error> {
    let mut tx = TenantTx::begin(pool, tenant).await?;
    let newest = positions::newest(&mut tx).await?;
    tx.end().await?;
    Ok(newest)
}

impl fmt::Debug for Feeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feeds")
    }
}
