use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::Bytes;
use futures::future::try_join_all;
use toolgate_events::{Envelope, Partition};

use crate::{Log, append::headers};

/// An event that belongs at one place of the log.
#[derive(Clone, Debug)]
pub struct Lost {
    pub stream_sequence: u64,
    pub subject: String,
    pub content: LostContent,
}

#[derive(Clone, Debug)]
pub enum LostContent {
    Event(Box<Envelope>),
    /// What nobody could read, as it was.
    Bytes(Vec<u8>),
}

/// Why events could not be put back. Those before it are back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("cannot encode event {stream_sequence}: {source}")]
    Encode { stream_sequence: u64, source: serde_json::Error },
    #[error("the log did not take event {stream_sequence}: {reason}")]
    NotTaken { stream_sequence: u64, reason: String },
}

impl Log {
    /// Puts events back where they were: each only where the log ends right before its place, so that none can land elsewhere. They
    /// follow each other without a gap.
    ///
    /// # Errors
    /// [`RestoreError`]
    pub async fn restore(&self, events: Vec<Lost>) -> Result<(), RestoreError> {
        let mut acknowledgements = Vec::with_capacity(events.len());
        for Lost { stream_sequence, subject, content } in events {
            let (headers, payload) = match content {
                LostContent::Event(envelope) => {
                    let bytes = envelope.encode().map_err(|source| RestoreError::Encode { stream_sequence, source })?;
                    (headers(&envelope, None), Bytes::from(bytes))
                }
                LostContent::Bytes(bytes) => (HeaderMap::new(), Bytes::from(bytes)),
            };
            let message = PublishMessage::build().headers(headers).payload(payload).expected_last_sequence(stream_sequence - 1);
            let not_taken =
                move |error: &dyn std::fmt::Display| RestoreError::NotTaken { stream_sequence, reason: error.to_string() };
            let sent = self.context.send_publish(subject, message).await.map_err(|error| not_taken(&error))?;
            acknowledgements.push(async move { sent.await.map_err(|error| not_taken(&error)) });
        }
        try_join_all(acknowledgements).await.map(drop)
    }

    /// A subject for a place that belongs to no tenant, so that the places after it keep their sequences.
    pub fn filler(partition: Partition, stream_sequence: u64) -> String {
        format!("ev.{partition}.lost.{stream_sequence}")
    }
}
