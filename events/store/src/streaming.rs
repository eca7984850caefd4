use std::time::Duration;

use async_nats::jetstream::{self, stream::Config};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    EntryError, Log, LogError, Login,
    connect::connect,
    entries::{Entries, PATIENCE},
};

const STREAM: &str = "STREAMING";
const SUBJECTS: &str = "streaming.>";
const MODE: &str = "streaming.mode";
/// How often a replica asks what operators have chosen.
const INTERVAL: Duration = Duration::from_secs(1);

/// What operators have chosen for event streams: a stream beside the log with one message, the newest.
#[derive(Clone, Debug)]
pub struct Streaming(Entries);

/// When events are streamed in bursts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamingMode {
    /// Always.
    On,
    /// Never.
    Off,
    /// While the projection is late.
    #[default]
    Auto,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    safe_mode: StreamingMode,
}

/// Why the choice could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    #[error(transparent)]
    Connect(#[from] LogError),
    #[error("the choice for event streams: {0}")]
    Entry(#[from] EntryError),
}

impl Streaming {
    /// On the connection of a log.
    pub fn of(log: &Log) -> Self {
        Self(Entries::new(log.context.clone(), STREAM, SUBJECTS))
    }

    /// On a connection of its own, without the log.
    ///
    /// # Errors
    /// [`StreamingError::Connect`]
    pub async fn connect(login: Login<'_>) -> Result<Self, StreamingError> {
        let client = connect(login).await?;
        let context = jetstream::context::ContextBuilder::new().timeout(PATIENCE).build(client);
        Ok(Self(Entries::new(context, STREAM, SUBJECTS)))
    }

    /// Chooses for every replica.
    ///
    /// # Errors
    /// [`StreamingError`]; the choice may then be made or not, and the same again is safe.
    pub async fn choose(&self, safe_mode: StreamingMode) -> Result<(), StreamingError> {
        Ok(self.0.replace(MODE, &Entry { safe_mode }).await?)
    }

    /// Keeps what is chosen up to date for as long as somebody looks. What cannot be read stays as it was.
    pub async fn follow(self, chosen: watch::Sender<StreamingMode>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sequence, mut was_read) = (0, true);
        while !chosen.is_closed() {
            ticks.tick().await;
            let read = self.read_after(sequence).await;
            match &read {
                // Only the change is news.
                Err(error) if was_read => {
                    tracing::warn!(error = %error, "cannot read how events are to be streamed; trying again")
                }
                Err(_) => {}
                Ok((choice, read_to)) => {
                    sequence = *read_to;
                    if let Some(choice) = *choice {
                        tracing::info!(safe_mode = ?choice, "operators have chosen how events are streamed");
                        chosen.send_replace(choice);
                    }
                }
            }
            was_read = read.is_ok();
        }
    }

    async fn read_after(&self, sequence: u64) -> Result<(Option<StreamingMode>, u64), EntryError> {
        let (entries, sequence) = self.0.read_after(sequence).await?;
        let choice = entries.get(MODE).map(|payload| serde_json::from_slice::<Entry>(payload)).transpose()?;
        Ok((choice.map(|entry| entry.safe_mode), sequence))
    }
}

/// The stream that holds the choice.
pub(crate) fn config() -> Config {
    Entries::config(STREAM, SUBJECTS)
}
