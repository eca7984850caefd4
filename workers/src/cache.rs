//! Results that may answer later calls of the same tenant.
//!
//! One worker's memory, bounded in bytes. What is kept is dropped when somebody says that it counts no longer, and altogether
//! whenever that may have been missed. Ages come from whoever asks: the cache has no clock.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use moka::{policy::EvictionPolicy, sync::Cache};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use toolgate_events::{CallId, TenantId, canonical};
use toolgate_store::{Invalidated, Log, LogError};

const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);
/// What an entry weighs beside its result, in bytes.
const OVERHEAD: usize = 256;

/// What makes two calls the same question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    tool: &'static str,
    tenant: TenantId,
    /// SHA-256 over contract, arguments and locale.
    question: String,
}

impl Key {
    pub fn of(tool: &'static str, tenant: TenantId, contract_hash: &str, arguments: &Value, locale: Option<&str>) -> Self {
        Self { tool, tenant, question: canonical::sha256_hex(&json!([contract_hash, arguments, locale])) }
    }
}

/// A result that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The call it was made for.
    pub call_id: CallId,
    pub made: Instant,
    /// As JSON: it weighs what it says.
    pub json: Arc<[u8]>,
}

impl Kept {
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made)
    }
}

/// Where the result of a call under way will be.
type Landing = watch::Receiver<Option<Arc<Kept>>>;

/// The results that a worker has kept. Clones share them.
#[derive(Clone)]
pub struct ResultCache(Arc<Inner>);

struct Inner {
    log: Option<Log>,
    kept: Cache<Key, Arc<Kept>>,
    epochs: RwLock<Epochs>,
    /// Connections to the broker when the cache was last known to have missed nothing.
    connections: AtomicU64,
    /// Who is asking what, and in which epoch they began.
    flights: Mutex<HashMap<(Key, Epoch), Landing>>,
    listening: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// How often everything, and how often the results of a tool, were invalidated: what was asked before may not be kept after.
type Epoch = (u64, u64);

#[derive(Debug, Default)]
struct Epochs {
    all: u64,
    /// Only of tools that somebody has named.
    tools: HashMap<String, u64>,
}

/// How a call joins others that ask the same at the same time.
#[derive(Debug)]
pub enum Joined {
    /// Nobody else is asking: the others wait for this one.
    Lead(Flight),
    Follow(Following),
}

/// The call that asks for all. When it ends without a result, each of the others asks by itself.
pub struct Flight {
    cache: ResultCache,
    key: Key,
    epoch: Epoch,
    landed: watch::Sender<Option<Arc<Kept>>>,
    is_shared: bool,
}

/// A call that waits for another's result.
#[derive(Debug)]
pub struct Following(Landing);

impl ResultCache {
    /// An empty one of so many bytes, which hears what others invalidate.
    ///
    /// # Errors
    /// [`LogError::Subscribe`]
    pub async fn open(log: &Log, bytes: u64) -> Result<Self, LogError> {
        let cache = Self::new(Some(log.clone()), bytes);
        let first = log.invalidated().await?.boxed();
        // It must not keep alive what ends it.
        let listener = Arc::downgrade(&cache.0);
        let log = log.clone();
        let task = tokio::spawn(async move {
            let mut announced = first;
            loop {
                while let Some(invalidated) = announced.next().await {
                    let Some(inner) = listener.upgrade() else { return };
                    Self(inner).hear(invalidated);
                }
                announced = subscribe_again(&log).await;
                if let Some(inner) = listener.upgrade() {
                    Self(inner).clear();
                }
            }
        });
        *cache.0.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(task));
        Ok(cache)
    }

    fn new(log: Option<Log>, bytes: u64) -> Self {
        let weigh = |_: &Key, kept: &Arc<Kept>| u32::try_from(kept.json.len() + OVERHEAD).unwrap_or(u32::MAX);
        let kept = Cache::builder()
            .max_capacity(bytes)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .support_invalidation_closures()
            .build();
        let connections = AtomicU64::new(log.as_ref().map_or(0, Log::connections));
        let inner =
            Inner { log, kept, epochs: RwLock::default(), connections, flights: Mutex::default(), listening: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// The result for a question, when there is one that is not older than `oldest`.
    pub fn find(&self, key: &Key, oldest: Duration, now: Instant) -> Option<Arc<Kept>> {
        self.notice_reconnection();
        self.0.kept.get(key).filter(|kept| kept.age(now) <= oldest)
    }

    /// Begins to ask. `is_shared`: whether others may join, and whether this one may join others.
    pub fn join(&self, key: &Key, is_shared: bool) -> Joined {
        self.notice_reconnection();
        let epoch = self.0.epochs.read().unwrap_or_else(PoisonError::into_inner).of(key.tool);
        let (landed, receiver) = watch::channel(None);
        if is_shared {
            let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
            let place = (key.clone(), epoch);
            if let Some(others) = flights.get(&place) {
                return Joined::Follow(Following(others.clone()));
            }
            flights.insert(place, receiver);
        }
        Joined::Lead(Flight { cache: self.clone(), key: key.clone(), epoch, landed, is_shared })
    }

    /// An announcement; what is not understood may concern anything.
    fn hear(&self, invalidated: Option<Invalidated>) {
        match invalidated {
            Some(invalidated) => self.drop_results(invalidated),
            None => self.clear(),
        }
    }

    fn drop_results(&self, Invalidated { tool, tenant_id }: Invalidated) {
        let mut epochs = self.0.epochs.write().unwrap_or_else(PoisonError::into_inner);
        *epochs.tools.entry(tool.clone()).or_default() += 1;
        let concerns = move |key: &Key, _: &Arc<Kept>| key.tool == tool && tenant_id.is_none_or(|tenant| tenant == key.tenant);
        if let Err(error) = self.0.kept.invalidate_entries_if(concerns) {
            tracing::error!(error = %error, "single results cannot be dropped; all of them are");
            self.0.kept.invalidate_all();
        }
    }

    fn clear(&self) {
        let mut epochs = self.0.epochs.write().unwrap_or_else(PoisonError::into_inner);
        epochs.all += 1;
        self.0.kept.invalidate_all();
    }

    /// What was announced while the connection was down has been missed.
    fn notice_reconnection(&self) {
        let Some(log) = &self.0.log else { return };
        let connections = log.connections();
        if self.0.connections.swap(connections, Ordering::AcqRel) != connections {
            self.clear();
        }
    }
}

impl Epochs {
    fn of(&self, tool: &str) -> Epoch {
        (self.all, self.tools.get(tool).copied().unwrap_or_default())
    }
}

async fn subscribe_again(log: &Log) -> futures::stream::BoxStream<'static, Option<Invalidated>> {
    loop {
        tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
        match log.invalidated().await {
            Ok(announced) => return announced.boxed(),
            Err(error) => tracing::warn!(error = %error, "cannot hear what is invalidated"),
        }
    }
}

impl Flight {
    /// The result is recorded: the others get it, and it is kept unless the tool's were invalidated meanwhile.
    pub fn land(self, kept: Kept) {
        let kept = Arc::new(kept);
        let epochs = self.cache.0.epochs.read().unwrap_or_else(PoisonError::into_inner);
        if epochs.of(self.key.tool) == self.epoch {
            self.cache.0.kept.insert(self.key.clone(), Arc::clone(&kept));
        }
        drop(epochs);
        // Nobody may have joined.
        drop(self.landed.send(Some(kept)));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.is_shared {
            let mut flights = self.cache.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.remove(&(self.key.clone(), self.epoch));
        }
    }
}

impl Following {
    /// The other call's result; `None` when it ended without one.
    pub async fn result(mut self) -> Option<Arc<Kept>> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|kept| kept.clone())
    }
}

impl fmt::Debug for ResultCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultCache").field("results", &self.0.kept.entry_count()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(tenant: u128, tool: &'static str, query: &str) -> Key {
        Key::of(tool, TenantId(Uuid::from_u128(tenant)), "hash", &json!({"query": query}), None)
    }

    fn kept(size: usize, made: Instant) -> Kept {
        Kept { call_id: CallId(Uuid::nil()), made, json: vec![b' '; size].into() }
    }

    fn lead(cache: &ResultCache, key: &Key) -> Flight {
        match cache.join(key, true) {
            Joined::Lead(flight) => flight,
            Joined::Follow(_) => panic!("somebody leads already"),
        }
    }

    fn keep(cache: &ResultCache, key: &Key, size: usize, made: Instant) {
        lead(cache, key).land(kept(size, made));
    }

    #[test]
    fn the_same_question_of_the_same_tenant_is_answered_while_it_is_fresh() {
        let (cache, now) = (ResultCache::new(None, 1 << 20), Instant::now());
        keep(&cache, &key(1, "a.b", "x"), 10, now);
        let found = |key: &Key, oldest| cache.find(key, oldest, now + MINUTE).is_some();
        assert!(found(&key(1, "a.b", "x"), MINUTE));
        assert!(!found(&key(1, "a.b", "x"), MINUTE - Duration::from_millis(1)), "too old");
        assert!(!found(&key(2, "a.b", "x"), MINUTE), "another tenant");
        assert!(!found(&key(1, "a.c", "x"), MINUTE), "another tool");
        assert!(!found(&key(1, "a.b", "y"), MINUTE), "another question");
        let tenant = TenantId(Uuid::from_u128(1));
        assert!(!found(&Key::of("a.b", tenant, "other", &json!({"query": "x"}), None), MINUTE), "another contract");
        assert!(!found(&Key::of("a.b", tenant, "hash", &json!({"query": "x"}), Some("id")), MINUTE), "another language");
    }

    #[test]
    fn the_order_of_members_makes_no_other_question() {
        let of = |text: &str| Key::of("a.b", TenantId(Uuid::nil()), "h", &serde_json::from_str(text).unwrap(), None);
        assert_eq!(of(r#"{"a": 1, "b": 2}"#), of(r#"{"b": 2, "a": 1}"#));
    }

    #[test]
    fn it_holds_so_many_bytes_and_no_more() {
        let now = Instant::now();
        let most = OVERHEAD + 1_000;
        let cache = ResultCache::new(None, most as u64);
        for (size, is_kept) in [(999, true), (1_000, true), (1_001, false)] {
            let key = key(1, "a.b", &size.to_string());
            keep(&cache, &key, size, now);
            cache.0.kept.run_pending_tasks();
            assert_eq!(cache.find(&key, MINUTE, now).is_some(), is_kept, "{size}");
            assert!(cache.0.kept.weighted_size() <= most as u64);
        }
    }

    #[test]
    fn none_is_kept_where_there_is_no_room() {
        let (cache, now) = (ResultCache::new(None, 0), Instant::now());
        keep(&cache, &key(1, "a.b", "x"), 0, now);
        cache.0.kept.run_pending_tasks();
        assert_eq!(cache.find(&key(1, "a.b", "x"), MINUTE, now), None);
    }

    fn invalidate(cache: &ResultCache, tool: &str, tenant: Option<u128>) {
        let tenant_id = tenant.map(|tenant| TenantId(Uuid::from_u128(tenant)));
        cache.hear(Some(Invalidated { tool: tool.to_owned(), tenant_id }));
    }

    #[test]
    fn what_is_invalidated_is_gone_and_nothing_else() {
        let (cache, now) = (ResultCache::new(None, 1 << 20), Instant::now());
        let keys = [key(1, "a.b", "x"), key(2, "a.b", "x"), key(1, "c.d", "x")];
        keys.iter().for_each(|key| keep(&cache, key, 10, now));
        let found = || keys.each_ref().map(|key| cache.find(key, MINUTE, now).is_some());
        invalidate(&cache, "a.b", Some(1));
        assert_eq!(found(), [false, true, true]);
        invalidate(&cache, "a.b", None);
        assert_eq!(found(), [false, false, true]);
        cache.hear(None);
        assert_eq!(found(), [false, false, false]);
    }

    #[test]
    fn what_was_asked_before_an_invalidation_is_not_kept_after_it() {
        let (cache, now) = (ResultCache::new(None, 1 << 20), Instant::now());
        let flight = lead(&cache, &key(1, "a.b", "x"));
        invalidate(&cache, "a.b", None);
        let later = lead(&cache, &key(1, "a.b", "x"));
        flight.land(kept(10, now));
        assert_eq!(cache.find(&key(1, "a.b", "x"), MINUTE, now), None);
        later.land(kept(10, now));
        assert!(cache.find(&key(1, "a.b", "x"), MINUTE, now).is_some());
    }

    #[test]
    fn what_concerns_another_tool_keeps_nothing_from_being_kept() {
        let (cache, now) = (ResultCache::new(None, 1 << 20), Instant::now());
        let key = key(1, "a.b", "x");
        for (concerns, is_kept) in [(Some("c.d"), true), (Some("a.b"), false), (None, false)] {
            let flight = lead(&cache, &key);
            match concerns {
                Some(tool) => invalidate(&cache, tool, None),
                None => cache.hear(None),
            }
            assert_eq!(matches!(cache.join(&key, true), Joined::Follow(_)), is_kept, "{concerns:?}");
            flight.land(kept(10, now));
            assert_eq!(cache.find(&key, MINUTE, now).is_some(), is_kept, "{concerns:?}");
        }
    }

    #[tokio::test]
    async fn who_asks_the_same_waits_for_the_first() {
        let (cache, now) = (ResultCache::new(None, 1 << 20), Instant::now());
        let flight = lead(&cache, &key(1, "a.b", "x"));
        let Joined::Follow(following) = cache.join(&key(1, "a.b", "x"), true) else { panic!("a second leader") };
        assert!(matches!(cache.join(&key(2, "a.b", "x"), true), Joined::Lead(_)), "another tenant");
        assert!(matches!(cache.join(&key(1, "a.b", "x"), false), Joined::Lead(_)), "who wants its own");
        let mut waiting = std::pin::pin!(following.result());
        assert!(waiting.as_mut().now_or_never().is_none());
        flight.land(kept(10, now));
        assert_eq!(waiting.await.map(|kept| kept.json.len()), Some(10));
    }

    #[tokio::test]
    async fn a_first_that_ends_without_a_result_holds_nobody_up() {
        let cache = ResultCache::new(None, 1 << 20);
        let flight = lead(&cache, &key(1, "a.b", "x"));
        let Joined::Follow(following) = cache.join(&key(1, "a.b", "x"), true) else { panic!("a second leader") };
        drop(flight);
        assert_eq!(following.result().await, None);
        assert!(matches!(cache.join(&key(1, "a.b", "x"), true), Joined::Lead(_)));
    }
}
