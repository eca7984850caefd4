//! How many commands a tenant may send: a sliding window over 60 seconds, counted across replicas.
//!
//! The count is a shared counter per tenant and window. A replica adds a lease to it before it admits anything from that lease, so
//! what is admitted anywhere is counted already: the estimate never exceeds the limit, up to how far the replicas' clocks are apart.
//! What a replica has leased and not used is lost to the others; a lease is a 64th of what is left.

mod share;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use moka::sync::Cache;
use tokio::sync::OwnedMutexGuard;
use toolgate_events::TenantId;

use self::share::{Ask, Share, Take};

pub use self::share::Standing;

/// Limits of tenants remembered at the most; of the others the unused leases are forgotten.
const CAPACITY: u64 = 50_000;
/// Longer than a window and the one after it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(180);

/// What is counted: a tenant's commands, all of them or those for one tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counted {
    pub tenant: TenantId,
    pub tool: Option<&'static str>,
}

/// The counters are out of reach.
#[derive(Debug, thiserror::Error)]
#[error("the counters are out of reach: {0}")]
pub struct QuotaUnavailable(pub String);

/// Counters that all replicas share. What does not exist counts 0.
pub trait Quota: fmt::Debug + Send + Sync {
    /// Adds to the counter of a window, or takes away from it, in one step; answers with what it holds now.
    fn add(&self, counted: Counted, window: u64, number: i64) -> BoxFuture<'_, Result<u64, QuotaUnavailable>>;

    /// What the counter of a window holds.
    fn total(&self, counted: Counted, window: u64) -> BoxFuture<'_, Result<u64, QuotaUnavailable>>;
}

/// The time, passed in.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Why a command is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 429
    Limited(Standing),
    /// 503
    Unavailable,
}

/// The limits of all tenants, as this replica knows them.
#[derive(Clone)]
pub struct Limiter {
    shares: Cache<Counted, Arc<Shared>>,
    quota: Arc<dyn Quota>,
    now: Now,
}

/// One limit of one tenant, for all who ask at the same time.
#[derive(Debug)]
struct Shared {
    share: Mutex<Share>,
    /// Commands that wait for the lease under way.
    waiting: AtomicU64,
    /// Held by whoever asks for a lease: one at a time.
    leasing: Arc<tokio::sync::Mutex<()>>,
}

impl Limiter {
    pub fn new(quota: Arc<dyn Quota>, now: Now) -> Self {
        Self { shares: Cache::builder().max_capacity(CAPACITY).time_to_idle(FORGOTTEN_AFTER).build(), quota, now }
    }

    /// Counts one command. Without I/O as long as a lease lasts, and after a refusal until the next permit is due.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn admit(&self, counted: Counted, limit: u64) -> Result<Standing, Refusal> {
        let shared = self.shares.get_with(counted, || Arc::new(Shared::new(limit)));
        if let Some(outcome) = shared.take(self.now()) {
            return outcome;
        }
        let _waits = Waits::new(&shared.waiting);
        loop {
            let leasing = Arc::clone(&shared.leasing).lock_owned().await;
            // Whoever leased meanwhile has leased for all who waited.
            if let Some(outcome) = shared.take(self.now()) {
                return outcome;
            }
            // A task of its own, because a caller that hangs up must not leave a lease counted and unknown.
            let lease = tokio::spawn(self.clone().lease(Arc::clone(&shared), counted, leasing));
            if lease.await.is_err() {
                return Err(Refusal::Unavailable);
            }
        }
    }

    async fn lease(self, shared: Arc<Shared>, counted: Counted, _leasing: OwnedMutexGuard<()>) {
        if let Err(error) = self.try_to_lease(&shared, counted).await {
            tracing::warn!(error = %error, "no commands can be counted, so none are admitted");
            shared.lock().failed(self.now());
        }
    }

    async fn try_to_lease(&self, shared: &Shared, counted: Counted) -> Result<(), QuotaUnavailable> {
        let Ask { window, read_previous } = shared.lock().ask(self.now());
        if read_previous {
            let previous = self.quota.total(counted, window.saturating_sub(1)).await?;
            shared.lock().heard_previous(window, previous);
        }
        let waiting = shared.waiting.load(Ordering::Relaxed);
        let Some(wanted) = shared.lock().wanted(self.now(), window, waiting) else { return Ok(()) };
        let total = self.quota.add(counted, window, signed(wanted)).await?;
        let excess = shared.lock().leased(self.now(), window, wanted, total);
        if excess > 0
            && let Err(error) = self.quota.add(counted, window, -signed(excess)).await
        {
            // The limit holds all the same; the tenant gets that much less of it.
            tracing::debug!(error = %error, "permits could not be returned");
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        u64::try_from((self.now)().timestamp_millis()).unwrap_or_default()
    }
}

impl Shared {
    fn new(limit: u64) -> Self {
        Self { share: Mutex::new(Share::new(limit)), waiting: AtomicU64::new(0), leasing: Arc::default() }
    }

    /// `None` when a lease is needed to tell.
    fn take(&self, now: u64) -> Option<Result<Standing, Refusal>> {
        match self.lock().take(now) {
            Take::Admitted(standing) => Some(Ok(standing)),
            Take::Refused(standing) => Some(Err(Refusal::Limited(standing))),
            Take::Unavailable => Some(Err(Refusal::Unavailable)),
            Take::Lease => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Share> {
        // A share stays consistent whatever panicked while holding it.
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("quota", &self.quota).finish_non_exhaustive()
    }
}

/// One command that waits.
struct Waits<'a>(&'a AtomicU64);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
