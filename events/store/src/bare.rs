//! The log with nothing around it: the floor that `toolgate bench` measures against, and nothing else uses.
//!
//! It does what the broker cannot be spared (append and wait for the acknowledgement, fetch, acknowledge, announce) and leaves out
//! everything that makes it safe to use: no decision, no reading back, no second try, no redelivery.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        consumer::{AckPolicy, pull},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use futures::{StreamExt, future};
use tokio::{sync::oneshot, task::AbortHandle};
use toolgate_events::{CallId, CallSubject, Lane, Partition};

use crate::Log;

const REPLY_TO: &str = "Bench-Reply-To";
const CALL_ID: &str = "call-id";
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes for the log, and the headers beside them.
#[derive(Clone, Debug)]
pub struct BareEvent {
    pub headers: Vec<(&'static str, String)>,
    pub payload: Bytes,
}

/// Why the floor could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    #[error("the log refused a bare event: {0}")]
    Publish(#[from] jetstream::context::PublishError),
    #[error("cannot set up a bare consumer: {0}")]
    Consumer(#[from] jetstream::stream::ConsumerError),
    #[error("cannot fetch: {0}")]
    Fetch(#[from] jetstream::consumer::StreamError),
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("no reply came within {} s", PATIENCE.as_secs())]
    NoReply,
    #[error("a bare consumer stopped")]
    Stopped,
}

/// Publishes without ceremony.
#[derive(Clone, Debug)]
pub struct Bare(Log);

impl Bare {
    pub fn new(log: Log) -> Self {
        Self(log)
    }

    pub fn partitions(&self) -> u16 {
        self.0.partitions
    }

    /// Appends the first event of a subject and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`BareError::Publish`]
    pub async fn publish(&self, subject: &CallSubject, event: BareEvent) -> Result<u64, BareError> {
        self.send(subject, header_map(&event), event.payload).await
    }

    /// Answers every request of `lane` with what `outcome` makes of it, until something breaks. An outcome goes to a subject of
    /// its own, so that the consumer sees requests and nothing else.
    ///
    /// # Errors
    /// [`BareError`]
    pub async fn echo<F>(&self, lane: &Lane, outcome: F) -> Result<(), BareError>
    where
        F: Fn(CallSubject) -> (CallSubject, BareEvent) + Clone + Send + Sync + 'static,
    {
        let partitions = (0..self.0.partitions).map(|index| self.echo_partition(Partition(index), lane, outcome.clone()));
        future::try_join_all(partitions).await?;
        Ok(())
    }

    async fn echo_partition<F>(&self, partition: Partition, lane: &Lane, outcome: F) -> Result<(), BareError>
    where
        F: Fn(CallSubject) -> (CallSubject, BareEvent) + Clone + Send + Sync + 'static,
    {
        let config = pull::Config {
            durable_name: Some(format!("bare-{lane}")),
            filter_subject: format!("ev.{partition}.*.{lane}.*"),
            ack_policy: AckPolicy::Explicit,
            ..Default::default()
        };
        let mut messages = self.0.stream(partition).create_consumer(config).await?.messages().await?;
        while let Some(Ok(message)) = messages.next().await {
            let (bare, outcome) = (self.clone(), outcome.clone());
            tokio::spawn(async move {
                if let Err(error) = bare.answer(&message, outcome).await {
                    tracing::warn!(error = %error, "a bare request was left unanswered");
                }
            });
        }
        Err(BareError::Stopped)
    }

    async fn answer<F>(&self, message: &jetstream::Message, outcome: F) -> Result<(), BareError>
    where
        F: Fn(CallSubject) -> (CallSubject, BareEvent),
    {
        let Ok(subject) = CallSubject::parse(&message.subject) else { return Ok(()) };
        let call = subject.call_id;
        let (subject, event) = outcome(subject);
        self.send(&subject, header_map(&event), event.payload.clone()).await?;
        let reply_to = message.headers.as_ref().and_then(|headers| Some(headers.get(REPLY_TO)?.to_string()));
        if let Some(reply_to) = reply_to {
            let mut headers = HeaderMap::new();
            headers.insert(CALL_ID, call.to_string());
            // A lost reply shows as a request that fails.
            let _sent = self.0.client.publish_with_headers(reply_to, headers, event.payload).await;
        }
        let _acknowledged = message.ack().await;
        Ok(())
    }

    async fn send(&self, subject: &CallSubject, headers: HeaderMap, payload: Bytes) -> Result<u64, BareError> {
        let message = PublishMessage::build().headers(headers).payload(payload).expected_last_subject_sequence(0);
        let ack = self.0.context.send_publish(subject.to_string(), message).await?.await?;
        Ok(ack.sequence)
    }
}

type Waiting = Arc<Mutex<HashMap<CallId, oneshot::Sender<Bytes>>>>;

/// Sends bare requests and waits for their replies, over one subscription.
pub struct BareRequester {
    bare: Bare,
    reply_to: String,
    waiting: Waiting,
    task: AbortHandle,
}

impl BareRequester {
    /// # Errors
    /// [`BareError::Subscribe`]
    pub async fn open(bare: Bare) -> Result<Self, BareError> {
        let reply_to = bare.0.client.new_inbox();
        let mut replies = bare.0.client.subscribe(reply_to.clone()).await?;
        let waiting = Waiting::default();
        let senders = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(message) = replies.next().await {
                let call = message.headers.as_ref().and_then(|headers| headers.get(CALL_ID)?.as_str().parse().ok());
                let sender = call.and_then(|call| lock(&senders).remove(&call));
                if let Some(sender) = sender {
                    // Nobody waits for a request that has timed out.
                    let _gone = sender.send(message.payload);
                }
            }
        });
        Ok(Self { bare, reply_to, waiting, task: task.abort_handle() })
    }

    pub fn partitions(&self) -> u16 {
        self.bare.partitions()
    }

    /// Appends a request, waits for the acknowledgement and for the reply.
    ///
    /// # Errors
    /// [`BareError`]
    pub async fn request(&self, subject: &CallSubject, event: BareEvent) -> Result<Bytes, BareError> {
        let (sender, reply) = oneshot::channel();
        lock(&self.waiting).insert(subject.call_id, sender);
        let mut headers = header_map(&event);
        headers.insert(REPLY_TO, self.reply_to.as_str());
        self.bare.send(subject, headers, event.payload).await?;
        match tokio::time::timeout(PATIENCE, reply).await {
            Ok(Ok(payload)) => Ok(payload),
            _ => {
                lock(&self.waiting).remove(&subject.call_id);
                Err(BareError::NoReply)
            }
        }
    }
}

impl Drop for BareRequester {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for BareRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BareRequester").field("reply_to", &self.reply_to).finish_non_exhaustive()
    }
}

fn header_map(event: &BareEvent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &event.headers {
        headers.insert(*name, value.as_str());
    }
    headers
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The map stays consistent whatever panicked while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
