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
const BEFORE: &str = "before";

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    pub tenant: TenantId,
    pub position: u64,
    /// Of the event at that position, in the tenant's partition.
    pub stream_sequence: u64,
    /// The tenant's calls that have no outcome at that position; some projectors do not say.
    pub open_calls: Option<u64>,
    /// Places of the tenant's events right before that one, newest first, at most [`Self::MOST_BEFORE`]. A tenant's positions have no
    /// gaps, so each has the position one less than the one before it here.
    pub before: Vec<u64>,
}

impl Projected {
    /// So many places that an announcement stays small.
    pub const MOST_BEFORE: usize = 499;

    /// The places in the partition and the positions that it tells, newest first.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        let sequences = std::iter::once(self.stream_sequence).chain(self.before.iter().copied());
        sequences.zip((1..=self.position).rev())
    }
}

/// Places as the distances between them, which are short.
fn distances(stream_sequence: u64, before: &[u64]) -> String {
    let mut last = stream_sequence;
    let distances = before.iter().take(Projected::MOST_BEFORE).map(|&place| {
        let distance = last.saturating_sub(place);
        last = place;
        distance.to_string()
    });
    distances.collect::<Vec<_>>().join(",")
}

/// What [`distances`] has written. What cannot be read ends it: the rest is as if it had not been said.
fn places_before(stream_sequence: u64, distances: &str) -> Vec<u64> {
    let mut last = stream_sequence;
    let places = distances.split(',').take(Projected::MOST_BEFORE).map_while(|distance| {
        let distance: u64 = distance.parse().ok()?;
        last = last.checked_sub(distance).filter(|place| distance > 0 && *place > 0)?;
        Some(last)
    });
    places.collect()
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
        if !projected.before.is_empty() {
            headers.insert(BEFORE, distances(projected.stream_sequence, &projected.before));
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
                let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str());
                let open_calls = header(OPEN_CALLS).and_then(|open| open.parse().ok());
                let (position, stream_sequence) = (position.parse().ok()?, stream_sequence.parse().ok()?);
                let before = header(BEFORE).map_or_else(Vec::new, |before| places_before(stream_sequence, before));
                Some(Projected { tenant, position, stream_sequence, open_calls, before })
            })();
            std::future::ready(projected)
        }))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The map stays consistent whatever panicked while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_as_they_were_announced() {
        for before in [&[][..], &[9], &[9, 8, 2, 1]] {
            assert_eq!(places_before(10, &distances(10, before)), before);
        }
    }

    #[test]
    fn what_cannot_be_a_place_ends_the_list() {
        for (distances, places) in [
            ("1,x,1", &[9][..]),
            ("", &[]),
            ("0", &[]),
            ("10", &[]),
            ("9", &[1]),
            ("2,-1", &[8]),
            ("1,99999999999999999999", &[9]),
        ] {
            assert_eq!(places_before(10, distances), places, "{distances:?}");
        }
    }

    #[test]
    fn an_announcement_tells_so_many_places_and_not_one_more() {
        for (told, kept) in [(498, 498), (499, 499), (500, 499)] {
            let before: Vec<u64> = (1..=told).rev().collect();
            let text = distances(told + 1, &before);
            assert_eq!(places_before(told + 1, &text).len(), kept);
            assert_eq!(places_before(told + 1, &format!("{text},1")).len(), kept);
        }
    }

    #[test]
    fn positions_count_down_from_the_newest_and_end_at_the_first() {
        let projected = |position| Projected {
            tenant: TenantId(Uuid::nil()),
            position,
            stream_sequence: 10,
            open_calls: None,
            before: vec![8, 7],
        };
        assert_eq!(projected(5).places().collect::<Vec<_>>(), [(10, 5), (8, 4), (7, 3)]);
        assert_eq!(projected(2).places().collect::<Vec<_>>(), [(10, 2), (8, 1)], "there is no position 0");
    }
}
