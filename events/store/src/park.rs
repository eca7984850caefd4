use async_nats::jetstream::{
    message::PublishMessage,
    stream::{Config, StorageType},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use toolgate_events::Partition;

use crate::Log;

const STREAM: &str = "PARKED";

/// A message that no worker could handle, set aside so that the others go on. The message itself stays in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    pub subject: String,
    pub partition: u16,
    /// As a string: see RFC 8259, section 6.
    pub stream_sequence: String,
    pub reason: String,
}

pub(crate) fn config() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec!["parked.>".to_owned()],
        storage: StorageType::File,
        max_messages_per_subject: 1,
        ..Config::default()
    }
}

impl Log {
    /// Sets a message aside. Parking it twice leaves one entry.
    ///
    /// # Errors
    /// What the broker says; the message then stays where it was and comes again.
    pub async fn park(
        &self,
        partition: Partition,
        stream_sequence: u64,
        subject: &str,
        reason: &str,
    ) -> Result<(), async_nats::Error> {
        let parked = Parked {
            subject: subject.to_owned(),
            partition: partition.0,
            stream_sequence: stream_sequence.to_string(),
            reason: reason.to_owned(),
        };
        let payload = Bytes::from(serde_json::to_vec(&parked)?);
        let message = PublishMessage::build().payload(payload);
        self.context.send_publish(format!("parked.{partition}.{stream_sequence}"), message).await?.await?;
        Ok(())
    }

    /// What has been set aside, oldest first.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn parked(&self) -> Result<Vec<Parked>, async_nats::Error> {
        let Ok(stream) = self.context.get_stream(STREAM).await else {
            return Ok(Vec::new());
        };
        let mut parked = Vec::new();
        let last = stream.cached_info().state.last_sequence;
        let mut from = stream.cached_info().state.first_sequence.max(1);
        while from <= last {
            let message = stream.get_first_raw_message_by_subject("parked.>", from).await?;
            from = message.sequence + 1;
            parked.push(serde_json::from_slice(&message.payload)?);
        }
        Ok(parked)
    }
}
