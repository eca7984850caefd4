//! Announcements on core NATS: the fast path beside the log. Each may be lost; whoever waits for one reads the log or the
//! database when its patience ends.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::{sync::broadcast, task::AbortHandle};
use toolgate_events::{CallId, TenantId};
use uuid::Uuid;

use crate::{Log, LogError};

/// Where one API instance waits for outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo(String);

impl ReplyTo {
    pub(crate) const HEADER: &'static str = "Toolgate-Reply-To";

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Only what an API instance could have written: a header must not send outcomes elsewhere.
    pub(crate) fn parse(subject: &str) -> Option<Self> {
        let instance = subject.strip_prefix("reply.")?;
        Uuid::try_parse(instance).ok()?;
        Some(Self(subject.to_owned()))
    }
}

const CALL_ID: &str = "call-id";
const STREAM_SEQUENCE: &str = "stream-sequence";
const OPEN_CALLS: &str = "open-calls";

type Waiting = Arc<Mutex<HashMap<CallId, Queue>>>;

/// Everybody who waits for one call's outcome.
struct Queue {
    sender: broadcast::Sender<AnnouncedOutcome>,
    /// How many. The channel's own count still holds those that are just leaving.
    places: usize,
}

/// An outcome as a worker announces it: already in the log.
#[derive(Clone, Debug)]
pub struct AnnouncedOutcome {
    pub stream_sequence: u64,
    /// The envelope's bytes.
    pub envelope: Bytes,
}

/// One subscription for all the outcomes this instance waits for.
pub struct Replies {
    reply_to: ReplyTo,
    waiting: Waiting,
    task: AbortHandle,
}

/// A place in the queue for one call's outcome. Dropping it gives the place up.
pub struct WaitForReply {
    call: CallId,
    waiting: Waiting,
    receiver: broadcast::Receiver<AnnouncedOutcome>,
}

/// A tenant's newest position, as the projector announces it after its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projected {
    pub tenant: TenantId,
    pub position: u64,
    /// Of the event at that position, in the tenant's partition.
    pub stream_sequence: u64,
    /// The tenant's calls that have no outcome at that position; some projectors do not say.
    pub open_calls: Option<u64>,
}

impl Replies {
    /// # Errors
    /// [`LogError::Subscribe`]
    #[expect(clippy::disallowed_methods, reason = "an instance's address lives as long as the process and is never replayed")]
    pub async fn open(log: &Log) -> Result<Self, LogError> {
        let reply_to = ReplyTo(format!("reply.{}", Uuid::now_v7().simple()));
        let mut subscription = log.client.subscribe(reply_to.0.clone()).await?;
        let waiting = Waiting::default();
        let senders = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                let header = |name| message.headers.as_ref()?.get(name).map(|value| value.as_str());
                let call: Option<CallId> = header(CALL_ID).and_then(|call| call.parse().ok());
                let stream_sequence = header(STREAM_SEQUENCE).and_then(|sequence| sequence.parse().ok());
                let (Some(call), Some(stream_sequence)) = (call, stream_sequence) else { continue };
                let sender = lock(&senders).get(&call).map(|queue| queue.sender.clone());
                if let Some(sender) = sender {
                    // No receiver left means nobody waits any more.
                    let _gone = sender.send(AnnouncedOutcome { stream_sequence, envelope: message.payload });
                }
            }
        });
        Ok(Self { reply_to, waiting, task: task.abort_handle() })
    }

    pub fn reply_to(&self) -> &ReplyTo {
        &self.reply_to
    }

    /// Takes a place in the queue. To miss nothing, take it before the call is appended.
    pub fn wait_for(&self, call: CallId) -> WaitForReply {
        let mut waiting = lock(&self.waiting);
        let queue = waiting.entry(call).or_insert_with(|| Queue { sender: broadcast::channel(1).0, places: 0 });
        queue.places += 1;
        WaitForReply { call, waiting: Arc::clone(&self.waiting), receiver: queue.sender.subscribe() }
    }
}

impl WaitForReply {
    /// The outcome as it was appended. Pends for ever when the announcement is lost.
    pub async fn outcome(&mut self) -> AnnouncedOutcome {
        loop {
            match self.receiver.recv().await {
                Ok(outcome) => return outcome,
                // The same outcome was announced twice: the later one is as good.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

impl Drop for WaitForReply {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        if let Some(queue) = waiting.get_mut(&self.call) {
            queue.places -= 1;
            if queue.places == 0 {
                waiting.remove(&self.call);
            }
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("reply_to", &self.reply_to).finish_non_exhaustive()
    }
}

impl fmt::Debug for WaitForReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForReply").field("call", &self.call).finish_non_exhaustive()
    }
}

impl Log {
    /// Tells the waiting API instance an outcome that is already in the log.
    pub async fn announce_outcome(&self, reply_to: &ReplyTo, call: CallId, stream_sequence: u64, outcome: Bytes) {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(CALL_ID, call.to_string());
        headers.insert(STREAM_SEQUENCE, stream_sequence.to_string());
        if let Err(error) = self.client.publish_with_headers(reply_to.0.clone(), headers, outcome).await {
            tracing::debug!(error = %error, "an outcome could not be announced; the caller will read the log");
        }
    }

    /// Tells every API instance how far a tenant is projected. Only after the commit.
    pub async fn announce_projected(&self, projected: Projected) {
        let payload = Bytes::from(format!("{} {}", projected.position, projected.stream_sequence));
        // A header, because whoever does not know it can still read the rest.
        let mut headers = async_nats::HeaderMap::new();
        if let Some(open_calls) = projected.open_calls {
            headers.insert(OPEN_CALLS, open_calls.to_string());
        }
        let subject = format!("projected.{}", projected.tenant);
        if let Err(error) = self.client.publish_with_headers(subject, headers, payload).await {
            tracing::debug!(error = %error, "a position could not be announced; subscribers will look by themselves");
        }
    }

    /// Every tenant's newest positions, as they are announced.
    ///
    /// # Errors
    /// [`LogError::Subscribe`]
    pub async fn projected(&self) -> Result<impl Stream<Item = Projected> + Send + use<>, LogError> {
        let subscription = self.client.subscribe("projected.*").await?;
        Ok(subscription.filter_map(|message| {
            let projected = (|| {
                let tenant = message.subject.strip_prefix("projected.")?.parse().ok()?;
                let (position, stream_sequence) = std::str::from_utf8(&message.payload).ok()?.split_once(' ')?;
                let open_calls = message.headers.as_ref().and_then(|headers| headers.get(OPEN_CALLS)?.as_str().parse().ok());
                let (position, stream_sequence) = (position.parse().ok()?, stream_sequence.parse().ok()?);
                Some(Projected { tenant, position, stream_sequence, open_calls })
            })();
            std::future::ready(projected)
        }))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The map stays consistent whatever panicked while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
