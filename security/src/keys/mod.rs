//! The public keys that tokens are checked with, kept up to date while the process runs.

mod fetch;
mod jwks;
mod metrics;
mod source;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use tokio::{sync::Semaphore, time::Instant};

pub(crate) use self::jwks::MAX_KEY_ID_LENGTH;
pub use self::{
    jwks::{JwksError, KeySet},
    source::{KeySource, ReadError},
};
use self::{
    metrics::{Metrics, Outcome},
    source::Reader,
};

/// Tokens that name unknown keys cause one reading within this time, however many they are.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Requests that wait for such a reading at the most; the others are judged by the keys there are.
const MAX_WAITERS: usize = 64;
/// After a reading that failed, the next one comes this soon.
const RETRY: Duration = Duration::from_secs(10);
/// The same while there are no keys at all.
const RETRY_WITHOUT_KEYS: Duration = Duration::from_secs(1);

/// The keys, shared by everybody in the process who checks tokens.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    reader: Reader,
    current: RwLock<Current>,
    /// Held while the source is read.
    last_read: tokio::sync::Mutex<LastRead>,
    asked: Mutex<Option<Asked>>,
    /// For those who wait for a reading that an unknown key has caused.
    waiters: Semaphore,
    metrics: Metrics,
}

/// A key set and its number: whatever was concluded from another number holds no longer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Current {
    /// 0 before any keys have been read.
    pub generation: u64,
    pub set: Arc<KeySet>,
}

/// How the last reading went.
#[derive(Default)]
struct LastRead {
    /// Of the document that was taken last.
    digest: Option<[u8; 32]>,
    /// Why the reading failed, if it did: the same is not said twice.
    failure: Option<String>,
}

/// The last reading that an unknown key caused.
struct Asked {
    at: Instant,
    reading: Shared<BoxFuture<'static, ()>>,
}

impl Keys {
    /// Reads the keys for the first time. A file must be there and hold a usable key; an address may answer later, and until then
    /// [`Keys::readiness`] fails and no token can be checked.
    ///
    /// # Errors
    /// [`ReadError`] of a document or a file.
    pub async fn open(source: KeySource, registry: &mut Registry) -> Result<Self, ReadError> {
        let may_come_later = matches!(source, KeySource::Url { .. });
        let keys = Self(Arc::new(Inner {
            reader: Reader::new(source)?,
            current: RwLock::default(),
            last_read: tokio::sync::Mutex::default(),
            asked: Mutex::default(),
            waiters: Semaphore::new(MAX_WAITERS),
            metrics: Metrics::register(registry),
        }));
        match keys.0.load().await {
            Err(error) if !may_come_later => Err(error),
            Ok(()) if !may_come_later && keys.current().set.is_empty() => Err(ReadError::NoUsableKey),
            _ => Ok(keys),
        }
    }

    /// Reads the keys again and again, for as long as this is polled.
    pub async fn follow(self) {
        let mut succeeded = true;
        while let Some(pause) = self.0.reader.pause(!self.current().set.is_empty(), succeeded) {
            tokio::time::sleep(pause).await;
            // What went wrong has been logged.
            succeeded = self.0.load().await.is_ok();
        }
    }

    /// Whether there are keys to check tokens with.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn readiness(&self) -> Result<(), String> {
        if self.current().set.is_empty() { Err("there are no keys to check tokens with".to_owned()) } else { Ok(()) }
    }

    pub(crate) fn current(&self) -> Current {
        self.0.current()
    }

    /// Reads the keys once more because a token named a key that is not among `seen`. Callers at the same time share one reading;
    /// for a while after it there is no other.
    pub(crate) async fn look_again(&self, seen: u64) -> Current {
        let current = self.current();
        if current.generation != seen || matches!(self.0.reader, Reader::Fixed(_)) {
            return current;
        }
        let reading = self.reading();
        // Whoever waits holds a place among the requests under way, and anybody can name an unknown key.
        let Ok(_waits) = self.0.waiters.try_acquire() else { return current };
        reading.await;
        self.current()
    }

    /// The reading under way, the one of a moment ago, or a new one. It goes on when its callers have gone.
    fn reading(&self) -> Shared<BoxFuture<'static, ()>> {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match &*asked {
            Some(asked) if asked.at.elapsed() < COOL_DOWN => asked.reading.clone(),
            _ => {
                let inner = Arc::clone(&self.0);
                let task = tokio::spawn(async move { drop(inner.load().await) });
                let reading = task.map(drop).boxed().shared();
                *asked = Some(Asked { at: Instant::now(), reading: reading.clone() });
                reading
            }
        }
    }
}

impl Inner {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the source once. Keys that were good stay when this fails.
    async fn load(&self) -> Result<(), ReadError> {
        let mut last_read = self.last_read.lock().await;
        let loaded = match self.reader.read().await {
            Ok(document) => self.take(&document, &mut last_read),
            Err(error) => Err(error),
        };
        self.metrics.count(loaded.as_ref().copied().unwrap_or(Outcome::Failed));
        let failure = loaded.as_ref().err().map(ToString::to_string);
        if let Some(reason) = failure.as_ref().filter(|reason| last_read.failure.as_ref() != Some(*reason)) {
            tracing::warn!(reason, "the key set cannot be used; keeping the keys there are");
        }
        last_read.failure = failure;
        loaded.map(drop)
    }

    fn take(&self, document: &str, last_read: &mut LastRead) -> Result<Outcome, ReadError> {
        let digest: [u8; 32] = Sha256::digest(document).into();
        if last_read.digest == Some(digest) {
            return Ok(Outcome::Unchanged);
        }
        let set = KeySet::parse(document)?;
        tracing::info!(keys = ?set, "token keys read");
        last_read.digest = Some(digest);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current { generation: current.generation + 1, set: Arc::new(set) };
        Ok(Outcome::Changed)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.current()).finish()
    }
}
