//! Counters that all replicas share: what the rate limits are counted with.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        message::PublishMessage,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, StorageType},
    },
};
use serde::Deserialize;
use tokio::time::timeout;
use toolgate_events::TenantId;

use crate::Log;

const STREAM: &str = "LIMITS";
/// The header that makes a publish an addition (NATS ADR-49).
const INCREMENT: &str = "Nats-Incr";
/// A counter is read until the window after its own has ended; then it is litter.
const KEPT: Duration = Duration::from_secs(300);
/// How long the broker may take over one counter: a command waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// One counter: a tenant's commands in one window, all of them or those for one tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterName<'a> {
    pub tenant: TenantId,
    pub tool: Option<&'a str>,
    /// The number of the window.
    pub window: u64,
}

/// Why a counter could be neither read nor changed.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    #[error("the broker did not answer within {} ms", PATIENCE.as_millis())]
    Late,
    #[error("the broker refused: {0}")]
    Refused(String),
    #[error("the broker's answer is no count: {0:?}")]
    NoCount(Option<String>),
}

/// The counters. They are on the broker's disk, so a restart of it forgets nothing; it costs a lease a sync, and a command none.
#[derive(Clone, Debug)]
pub struct Counters(Log);

impl Counters {
    /// The counters beside a log.
    pub fn of(log: &Log) -> Self {
        Self(log.clone())
    }

    /// Adds to a counter, or takes away from it, and answers with what it holds now. A counter that does not exist holds 0.
    ///
    /// # Errors
    /// [`CounterError`]; the counter may have been changed all the same.
    pub async fn add(&self, name: CounterName<'_>, number: i64) -> Result<u64, CounterError> {
        let value = timeout(PATIENCE, self.publish(name, number)).await.map_err(|_| CounterError::Late)?.map_err(refused)?;
        count(value)
    }

    /// What a counter holds; 0 when it does not exist.
    ///
    /// # Errors
    /// [`CounterError`]
    pub async fn total(&self, name: CounterName<'_>) -> Result<u64, CounterError> {
        #[derive(Deserialize)]
        struct Value {
            val: String,
        }
        let stream = self.0.context.get_stream_no_info(STREAM).await.map_err(refused)?;
        // From the stream's leader: a replica of it may be behind.
        let read = timeout(PATIENCE, stream.get_last_raw_message_by_subject(&name.subject())).await;
        match read.map_err(|_| CounterError::Late)? {
            Ok(message) => count(serde_json::from_slice(&message.payload).ok().map(|Value { val }| val)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(0),
                _ => Err(refused(error)),
            },
        }
    }

    async fn publish(&self, name: CounterName<'_>, number: i64) -> Result<Option<String>, jetstream::context::PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(INCREMENT, format!("{number:+}"));
        let message = PublishMessage::build().headers(headers);
        let ack = self.0.context.send_publish(name.subject(), message).await?.await?;
        Ok(ack.value)
    }
}

/// The stream that holds the counters.
pub(crate) fn config() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec!["limits.>".to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 1,
        max_age: KEPT,
        allow_message_counter: true,
        allow_direct: true,
        ..Config::default()
    }
}

impl CounterName<'_> {
    fn subject(&self) -> String {
        let Self { tenant, tool, window } = self;
        match tool {
            None => format!("limits.{tenant}.{window}"),
            Some(tool) => format!("limits.{tenant}.{window}.{tool}"),
        }
    }
}

fn count(value: Option<String>) -> Result<u64, CounterError> {
    let count: Option<i128> = value.as_ref().and_then(|value| value.parse().ok());
    // A counter that was lost between an addition and its return would be negative.
    match count.map(|count| u64::try_from(count.max(0))) {
        Some(Ok(count)) => Ok(count),
        _ => Err(CounterError::NoCount(value)),
    }
}

fn refused(error: impl std::fmt::Display) -> CounterError {
    CounterError::Refused(error.to_string())
}
