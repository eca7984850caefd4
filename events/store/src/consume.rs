use std::time::Duration;

use async_nats::jetstream::{
    self, AckKind,
    consumer::{AckPolicy, DeliverPolicy, pull},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use toolgate_events::{Lane, Partition, TenantId};

use crate::{Log, announce::ReplyTo, append::EVENT_TYPE, log::SETUP_CONCURRENCY};

/// Messages fetched ahead, per partition and lane.
const FETCH_AHEAD: usize = 32;
/// Messages a projection's reader fetches ahead, per partition.
const READ_AHEAD: i64 = 200;
/// Before a broken consumer is set up again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Why messages cannot be had at the moment.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    #[error("cannot set up the consumer: {0}")]
    Consumer(#[from] jetstream::stream::ConsumerError),
    #[error("cannot fetch: {0}")]
    Fetch(#[from] jetstream::consumer::StreamError),
    #[error("the consumer stopped: {0}")]
    Stopped(String),
    #[error("cannot read the state of the log: {0}")]
    State(#[from] jetstream::stream::InfoError),
    #[error("{0} is a time that no log knows")]
    Time(DateTime<Utc>),
}

/// A message a worker holds until it acknowledges it.
#[derive(Debug)]
pub struct Delivery {
    message: jetstream::Message,
    pub partition: Partition,
    pub stream_sequence: u64,
    /// 1 at the first delivery.
    pub delivered: u64,
}

impl Delivery {
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Where the caller waits for the outcome, if one does.
    pub fn reply_to(&self) -> Option<ReplyTo> {
        ReplyTo::parse(self.message.headers.as_ref()?.get(ReplyTo::HEADER)?.as_str())
    }

    /// Whether the headers say that this is an event of another type, so that its body need not be read.
    pub fn is_other_than(&self, event_type: &str) -> bool {
        let said = self.message.headers.as_ref().and_then(|headers| headers.get(EVENT_TYPE));
        said.is_some_and(|said| said.as_str().rsplit_once(".v").is_some_and(|(said, _)| said != event_type))
    }

    /// The work is done and recorded. A lost acknowledgement only brings the message again.
    pub async fn ack(&self) {
        self.answer(AckKind::Ack).await;
    }

    /// The work goes on: do not give it to anybody else yet.
    pub async fn in_progress(&self) {
        self.answer(AckKind::Progress).await;
    }

    /// Give it to somebody, after `delay`.
    pub async fn retry_after(&self, delay: Duration) {
        self.answer(AckKind::Nak(Some(delay))).await;
    }

    async fn answer(&self, kind: AckKind) {
        if let Err(error) = self.message.ack_with(kind).await {
            tracing::warn!(error = %error, "could not answer for a message; it will come again");
        }
    }
}

/// A message as a projection reads it: in order, without acknowledgements.
#[derive(Clone, Debug)]
pub struct Received {
    pub partition: Partition,
    pub stream_sequence: u64,
    pub subject: String,
    pub payload: Bytes,
}

/// A reading of one partition.
pub type LogReader = stream::BoxStream<'static, Result<Received, ConsumeError>>;

/// Where one lane stands, over all partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneState {
    pub lane: Lane,
    /// Events not yet delivered to any worker.
    pub pending: u64,
    /// Events delivered and not yet acknowledged.
    pub ack_pending: u64,
    /// Events delivered more than once and not yet acknowledged.
    pub redelivered: u64,
}

impl Log {
    /// The calls of one lane, from every partition: one durable consumer a partition, shared by all workers of the lane. A message
    /// unanswered for `ack_wait` goes to another worker. A stream that breaks is set up again for as long as the caller listens.
    ///
    /// # Errors
    /// [`ConsumeError`] when the consumers cannot be set up in the first place.
    pub async fn consume_lane(
        &self,
        lane: &Lane,
        ack_wait: Duration,
        max_ack_pending: u32,
    ) -> Result<impl Stream<Item = Delivery> + Send + use<>, ConsumeError> {
        let config = |partition| (partition, lane_config(partition, lane, ack_wait, max_ack_pending));
        self.consume(self.all_partitions().map(config).collect()).await
    }

    /// The events of one lane, from when this is first asked for, for the webhook that tells somebody outside of them: consumers like
    /// those of [`Self::consume_lane`] beside them, so that neither waits for the other.
    ///
    /// # Errors
    /// [`ConsumeError`] when the consumers cannot be set up in the first place.
    pub async fn consume_for_webhook(
        &self,
        lane: &Lane,
        ack_wait: Duration,
        max_ack_pending: u32,
    ) -> Result<impl Stream<Item = Delivery> + Send + use<>, ConsumeError> {
        let config = |partition| {
            let lane_config = lane_config(partition, lane, ack_wait, max_ack_pending);
            let durable_name = Some(format!("webhook-{lane}"));
            (partition, pull::Config { durable_name, deliver_policy: DeliverPolicy::New, ..lane_config })
        };
        self.consume(self.all_partitions().map(config).collect()).await
    }

    async fn consume(
        &self,
        configs: Vec<(Partition, pull::Config)>,
    ) -> Result<impl Stream<Item = Delivery> + Send + use<>, ConsumeError> {
        let streams = stream::iter(configs)
            .map(|(partition, config)| async move {
                let first = fetch(self, partition, &config).await?;
                let source = LaneSource { log: self.clone(), partition, config, messages: Some(first) };
                Ok::<_, ConsumeError>(stream::unfold(source, next_delivery).boxed())
            })
            .buffer_unordered(SETUP_CONCURRENCY)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(stream::select_all(streams))
    }

    /// Everything in `partition` after a stream sequence, in order, and then what comes.
    ///
    /// The reader's place is the projection's checkpoint, so the broker keeps none for it.
    ///
    /// # Errors
    /// [`ConsumeError`]
    pub async fn read_after(&self, partition: Partition, stream_sequence: u64) -> Result<LogReader, ConsumeError> {
        let unique = self.client.new_inbox();
        let config = pull::OrderedConfig {
            // Without a name the request would go to a subject that says nothing about what is asked.
            name: unique.rsplit('.').next().map(|unique| format!("reader-{unique}")),
            max_batch: READ_AHEAD,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: stream_sequence + 1 },
            ..Default::default()
        };
        let messages = self.stream(partition).create_consumer(config).await?.messages().await?;
        Ok(messages.map(move |message| Ok(received(partition, message)?.0)).boxed())
    }

    /// What came into `partition` since a time, by the broker's clock, and was there when the reading began; of one tenant, or of
    /// all. It ends.
    ///
    /// # Errors
    /// [`ConsumeError`]
    pub async fn read_since(
        &self,
        partition: Partition,
        tenant: Option<TenantId>,
        since: DateTime<Utc>,
    ) -> Result<LogReader, ConsumeError> {
        let last = self.stream(partition).get_info().await?.state.last_sequence;
        let nanoseconds = i128::from(since.timestamp_micros()) * 1_000;
        let start_time = async_nats::datetime::from_nanos(nanoseconds).map_err(|_| ConsumeError::Time(since))?;
        let config = pull::OrderedConfig {
            max_batch: READ_AHEAD,
            deliver_policy: DeliverPolicy::ByStartTime { start_time },
            filter_subject: tenant.map_or_else(String::new, |tenant| format!("ev.{partition}.{tenant}.>")),
            ..Default::default()
        };
        let consumer = self.stream(partition).create_consumer(config).await?;
        if consumer.cached_info().num_pending == 0 {
            return Ok(stream::empty().boxed());
        }
        let messages = consumer.messages().await?;
        let bounded = stream::unfold(Some(messages), move |messages| async move {
            let mut messages = messages?;
            match received(partition, messages.next().await?) {
                Ok((message, _)) if message.stream_sequence > last => None,
                Ok((message, pending)) => {
                    // Nothing may follow, so nothing is waited for.
                    let is_last = message.stream_sequence == last || pending == 0;
                    Some((Ok(message), (!is_last).then_some(messages)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(bounded.boxed())
    }

    /// Where a lane stands. Partitions whose consumer does not exist yet count as empty.
    pub async fn lane_state(&self, lane: &Lane) -> LaneState {
        let name = consumer_name(lane);
        let infos: Vec<_> = stream::iter(self.all_partitions())
            .map(|partition| self.stream(partition).consumer_info(&name))
            .buffer_unordered(SETUP_CONCURRENCY)
            .filter_map(|info| std::future::ready(info.ok()))
            .collect()
            .await;
        LaneState {
            lane: lane.clone(),
            pending: infos.iter().map(|info| info.num_pending).sum(),
            ack_pending: infos.iter().map(|info| info.num_ack_pending as u64).sum(),
            redelivered: infos.iter().map(|info| info.num_redelivered as u64).sum(),
        }
    }
}

/// One partition's share of a lane.
struct LaneSource {
    log: Log,
    partition: Partition,
    config: pull::Config,
    messages: Option<pull::Stream>,
}

async fn fetch(log: &Log, partition: Partition, config: &pull::Config) -> Result<pull::Stream, ConsumeError> {
    let consumer = log.stream(partition).create_consumer(config.clone()).await?;
    Ok(consumer.stream().max_messages_per_batch(FETCH_AHEAD).messages().await?)
}

async fn next_delivery(mut source: LaneSource) -> Option<(Delivery, LaneSource)> {
    loop {
        let broken = match &mut source.messages {
            Some(messages) => match messages.next().await {
                Some(Ok(message)) => match delivery(source.partition, message) {
                    Ok(delivery) => return Some((delivery, source)),
                    Err(error) => error.to_string(),
                },
                Some(Err(error)) => error.to_string(),
                None => "the stream ended".to_owned(),
            },
            None => match fetch(&source.log, source.partition, &source.config).await {
                Ok(messages) => {
                    source.messages = Some(messages);
                    continue;
                }
                Err(error) => error.to_string(),
            },
        };
        tracing::warn!(reason = broken, partition = %source.partition, "a lane's consumer broke; setting it up again");
        source.messages = None;
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

fn consumer_name(lane: &Lane) -> String {
    format!("lane-{lane}")
}

fn lane_config(partition: Partition, lane: &Lane, ack_wait: Duration, max_ack_pending: u32) -> pull::Config {
    pull::Config {
        durable_name: Some(consumer_name(lane)),
        filter_subject: format!("ev.{partition}.*.{lane}.*"),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_ack_pending: i64::from(max_ack_pending),
        max_deliver: -1,
        ..Default::default()
    }
}

/// A message of a reading, and how many are known to follow it.
fn received(
    partition: Partition,
    message: Result<jetstream::Message, pull::OrderedError>,
) -> Result<(Received, u64), ConsumeError> {
    let stopped = |error: &dyn std::fmt::Display| ConsumeError::Stopped(error.to_string());
    let message = message.map_err(|error| stopped(&error))?;
    let info = message.info().map_err(|error| stopped(&error))?;
    let (stream_sequence, pending) = (info.stream_sequence, info.pending);
    let subject = message.subject.to_string();
    Ok((Received { partition, stream_sequence, subject, payload: message.payload.clone() }, pending))
}

fn delivery(partition: Partition, message: jetstream::Message) -> Result<Delivery, ConsumeError> {
    let (stream_sequence, delivered) = sequence_of(&message)?;
    Ok(Delivery { message, partition, stream_sequence, delivered })
}

fn sequence_of(message: &jetstream::Message) -> Result<(u64, u64), ConsumeError> {
    let info = message.info().map_err(|error| ConsumeError::Stopped(error.to_string()))?;
    Ok((info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1)))
}
