use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::broadcast;
use toolgate_events::TenantId;
use toolgate_security::{ReadPool, TenantTx};
use toolgate_store::{Announcements, Keyring};

use super::cloud_event::Rendered;
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
/// Events a client may be behind the feed before it falls back on the database, or is dropped.
const QUEUE: usize = 512;
/// Announcements may be lost: a feed also looks by itself this often.
const SAFETY_INTERVAL: Duration = Duration::from_secs(1);

type Senders = Arc<Mutex<HashMap<TenantId, broadcast::Sender<Arc<Rendered>>>>>;

/// One reading of each tenant that somebody listens to, however many listen.
#[derive(Clone)]
pub(crate) struct Feeds {
    pool: ReadPool,
    segments: Segments,
    keys: Keyring,
    announcements: Announcements,
    senders: Senders,
}

impl Feeds {
    pub(crate) fn new(pool: ReadPool, segments: Segments, keys: Keyring, announcements: Announcements) -> Self {
        Self { pool, segments, keys, announcements, senders: Senders::default() }
    }

    /// The tenant's events from now on: everything that is not in the database when this returns will come.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub(super) async fn subscribe(&self, tenant: TenantId) -> Result<broadcast::Receiver<Arc<Rendered>>, Error> {
        if let Some(sender) = self.senders().get(&tenant) {
            return Ok(sender.subscribe());
        }
        // Read before the feed begins: whoever reads the database afterwards reads at least this far.
        let begin = newest(&self.pool, tenant).await?;
        let mut senders = self.senders();
        if let Some(sender) = senders.get(&tenant) {
            return Ok(sender.subscribe());
        }
        let (sender, receiver) = broadcast::channel(QUEUE);
        senders.insert(tenant, sender.clone());
        tokio::spawn(self.clone().run(tenant, sender, begin));
        Ok(receiver)
    }

    /// Feeds a tenant's listeners until the last has left.
    async fn run(self, tenant: TenantId, sender: broadcast::Sender<Arc<Rendered>>, mut position: u64) {
        let mut following = self.announcements.follow(tenant);
        while !self.ends(tenant, &sender) {
            match self.read(tenant, position).await {
                Ok((events, has_more)) => {
                    for event in events {
                        position = event.position;
                        // No receiver left: the next round ends the feed.
                        let _gone = sender.send(Arc::new(event));
                    }
                    if has_more {
                        continue;
                    }
                }
                Err(error) => tracing::warn!(error = %error, "cannot read new events; trying again"),
            }
            following.changed(SAFETY_INTERVAL).await;
        }
    }

    /// Under the lock, so that nobody subscribes to a feed that has just ended.
    fn ends(&self, tenant: TenantId, sender: &broadcast::Sender<Arc<Rendered>>) -> bool {
        let mut senders = self.senders();
        let is_deserted = sender.receiver_count() == 0;
        if is_deserted {
            senders.remove(&tenant);
        }
        is_deserted
    }

    async fn read(&self, tenant: TenantId, after: u64) -> Result<(Vec<Rendered>, bool), Error> {
        self.read_history(tenant, &AuditFilter::default(), None, Stretch::after(after), PAGE).await
    }

    /// One page of events, and whether more follow.
    pub(super) async fn read_history(
        &self,
        tenant: TenantId,
        filter: &AuditFilter,
        session_id: Option<&str>,
        stretch: Stretch,
        limit: usize,
    ) -> Result<(Vec<Rendered>, bool), Error> {
        let mut tx = TenantTx::begin(&self.pool, tenant).await?;
        let (mut rows, has_more) = audit::streamed_page(&mut tx, &self.segments, filter, session_id, stretch, limit).await?;
        tx.end().await?;
        for row in &mut rows {
            open_row(&self.keys, tenant, &mut row.audit).await?;
        }
        let rendered = rows.into_iter().map(|row| Rendered::new(tenant.0, row)).collect::<Result<_, _>>();
        let rendered = rendered.map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((rendered, has_more))
    }

    fn senders(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, broadcast::Sender<Arc<Rendered>>>> {
        // The map stays consistent whatever panicked while holding it.
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tenant's newest position.
pub(super) async fn newest(pool: &ReadPool, tenant: TenantId) -> Result<u64, Error> {
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
