use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    self, Context,
    message::PublishMessage,
    stream::{Config, LastRawMessageErrorKind, StorageType},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::append::{Verdict, classify};

/// How long the broker may take with one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// Entries asked for at once.
const READ_AT_ONCE: u64 = 64;
/// Somebody else may change the same entry at the same time; not this often.
const ATTEMPTS: usize = 10;

/// A stream beside the log with one message for each subject, the newest.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    context: Context,
    stream: &'static str,
    subjects: &'static str,
}

/// Why entries could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("the broker cannot be used: {0}")]
    Broker(#[from] async_nats::Error),
    #[error("NATS did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("an entry cannot be written or read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("somebody else changes the same entry all the time")]
    Contended,
}

impl Entries {
    pub fn new(context: Context, stream: &'static str, subjects: &'static str) -> Self {
        Self { context, stream, subjects }
    }

    /// The stream that holds them.
    pub fn config(stream: &'static str, subjects: &'static str) -> Config {
        Config {
            name: stream.to_owned(),
            subjects: vec![subjects.to_owned()],
            storage: StorageType::File,
            max_messages_per_subject: 1,
            deny_delete: true,
            deny_purge: true,
            ..Config::default()
        }
    }

    /// Everything that has changed after a stream sequence, by subject, and the sequence it is read up to. An answer with the same
    /// sequence means that nothing has. When the stream was made anew, reading begins at its beginning.
    ///
    /// # Errors
    /// [`EntryError`]; nothing is known then.
    pub async fn read_after(&self, sequence: u64) -> Result<(HashMap<String, Bytes>, u64), EntryError> {
        let stream = timeout(PATIENCE, self.stream()).await??;
        let last = stream.cached_info().state.last_sequence;
        let mut read = if last < sequence { 0 } else { sequence };
        let mut changes = HashMap::new();
        while read < last {
            // Each asks for the first entry at its place or after it. Where entries were replaced, several get the same one.
            let places = read + 1..=last.min(read + READ_AT_ONCE);
            let entries = stream::iter(places).map(|place| stream.get_first_raw_message_by_subject(self.subjects, place));
            let entries: Vec<_> =
                timeout(PATIENCE, entries.buffered(READ_AT_ONCE as usize).try_collect()).await?.map_err(broker)?;
            for entry in entries {
                read = read.max(entry.sequence);
                changes.insert(entry.subject.to_string(), entry.payload);
            }
        }
        Ok((changes, read))
    }

    /// Replaces an entry by what follows from it; by nothing, to leave it.
    ///
    /// # Errors
    /// [`EntryError`]; the change may then be made or not, and the same again is safe.
    pub async fn update<E>(&self, subject: &str, next: impl Fn(Option<E>) -> Option<E>) -> Result<(), EntryError>
    where
        E: Serialize + DeserializeOwned,
    {
        let stream = timeout(PATIENCE, self.stream()).await??;
        for _ in 0..ATTEMPTS {
            let (before, expected) = match stream.get_last_raw_message_by_subject(subject).await {
                Ok(message) => (Some(serde_json::from_slice(&message.payload)?), message.sequence),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => (None, 0),
                Err(error) => return Err(broker(error)),
            };
            let Some(next) = next(before) else { return Ok(()) };
            let payload = Bytes::from(serde_json::to_vec(&next)?);
            let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(expected);
            let published = match self.context.send_publish(subject.to_owned(), message).await {
                Ok(acknowledgement) => acknowledgement.await,
                Err(error) => Err(error),
            };
            match published {
                Ok(_) => return Ok(()),
                Err(error) if matches!(classify(&error), Verdict::Conflict) => {}
                Err(error) => return Err(broker(error)),
            }
        }
        Err(EntryError::Contended)
    }

    /// Replaces an entry, whatever it was: also one that cannot be read.
    ///
    /// # Errors
    /// [`EntryError`]; the change may then be made or not, and the same again is safe.
    pub async fn replace(&self, subject: &str, next: &impl Serialize) -> Result<(), EntryError> {
        timeout(PATIENCE, self.stream()).await??;
        let payload = serde_json::to_vec(next)?;
        self.context.publish(subject.to_owned(), payload.into()).await.map_err(broker)?.await.map_err(broker)?;
        Ok(())
    }

    /// The stream, made on first use, with its state as of now.
    async fn stream(&self) -> Result<jetstream::stream::Stream, EntryError> {
        self.context.get_or_create_stream(Self::config(self.stream, self.subjects)).await.map_err(broker)
    }
}

fn broker(error: impl Into<async_nats::Error>) -> EntryError {
    EntryError::Broker(error.into())
}
