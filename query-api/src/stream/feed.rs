use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use toolgate_events::TenantId;
use toolgate_security::{ReadPool, TenantTx};
use toolgate_store::{Announcements, Clock, Keyring};

use super::{
    client::Resume,
    mode::{FeedMode, Mode, Modes},
    rendered::Rendered,
    tail::Tail,
};
use crate::{
    Error,
    opening::open_row,
    queries::{
        archive::Segments,
        audit::{self, AuditFilter, Stretch},
        positions,
    },
};

/// Rows read at once at the most, whether for everybody or for one client's history.
pub(super) const PAGE: usize = 200;
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
        Self { pool, segments, keys, announcements, modes, clock, tails: Tails::default() }
    }

    /// How often a tenant's events go out.
    pub(super) fn mode_of(&self, tenant: TenantId) -> Mode {
        self.tails().get(&tenant).map_or_else(|| self.modes.of_nobody(), |tail| tail.mode())
    }

    /// Where a stream begins, after the position that was asked for, if any.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub(crate) async fn resume(&self, tenant: TenantId, asked: Option<u64>) -> Result<Resume, Error> {
        // What the feed has told, it can go on from. Whether anything lies beyond that, only the database knows.
        let told = self.tails().get(&tenant).map(|tail| tail.position());
        if let (Some(asked), Some(told)) = (asked, told)
            && asked <= told
        {
            return Ok(Resume::of(Some(asked), positions::OLDEST, told));
        }
        Ok(Resume::of(asked, positions::OLDEST, newest(&self.pool, tenant).await?))
    }

    /// The tenant's events from now on: everything that is not in the database when this returns will come, as long as `listener`
    /// is there, which is to be called once.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub(super) async fn subscribe<L>(&self, tenant: TenantId, listener: impl Fn(&Arc<Tail>) -> L) -> Result<L, Error> {
        if let Some(tail) = self.tails().get(&tenant) {
            return Ok(listener(tail));
        }
        // Read before the feed begins: whoever reads the database afterwards reads at least this far.
        let begin = newest(&self.pool, tenant).await?;
        let mut tails = self.tails();
        if let Some(tail) = tails.get(&tenant) {
            return Ok(listener(tail));
        }
        let mut mode = FeedMode::new(self.modes.clone());
        let tail = Arc::new(Tail::after(begin, mode.observe(Duration::ZERO, Instant::now())));
        let listening = listener(&tail);
        tails.insert(tenant, Arc::clone(&tail));
        tokio::spawn(self.clone().run(Feed { tenant, tail, position: begin, mode }));
        Ok(listening)
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
        let (events, has_more) = self.read_history(feed.tenant, &AuditFilter::default(), None, stretch, PAGE).await?;
        // That an event comes late tells that the projection is late; that none comes tells nothing of the kind.
        let late = |newest: &Rendered| (self.clock.now() - newest.occurred_at).to_std().unwrap_or_default();
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

    /// One page of events with their content, and whether more follow.
    pub(super) async fn read_history(
        &self,
        tenant: TenantId,
        filter: &AuditFilter,
        session_id: Option<&str>,
        stretch: Stretch,
        limit: usize,
    ) -> Result<(Vec<Rendered>, bool), Error> {
        let place = (&self.pool, tenant);
        let (mut rows, has_more) = audit::streamed_page(place, &self.segments, filter, session_id, stretch, limit).await?;
        for row in &mut rows {
            open_row(&self.keys, tenant, &mut row.audit).await?;
        }
        let rendered = rows.into_iter().map(|row| Rendered::new(tenant.0, row)).collect::<Result<_, _>>();
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
