use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use toolgate_events::{CallId, CallSubject, DecodeError, Envelope, Partition, SubjectError, TenantId, ToolCall};

use crate::{KeyError, Log, Received};

/// One event with the place the broker gave it.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub stream_sequence: u64,
    pub envelope: Envelope,
    /// The envelope's bytes as they are in the log.
    pub payload: Bytes,
}

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the log did not answer: {0}")]
    Unavailable(String),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error("an event cannot be opened: {0}")]
    Keys(#[from] KeyError),
}

impl Log {
    /// Every event of one call, in order, and opened; empty when there is none. Reads from the stream's leader, so that an
    /// acknowledged append is always seen.
    ///
    /// # Errors
    /// [`LoadError`]
    pub async fn load(&self, subject: &CallSubject) -> Result<Vec<Recorded>, LoadError> {
        let mut recorded = self.load_as_recorded(subject).await?;
        for event in &mut recorded {
            event.envelope = self.keys().open(event.envelope.clone()).await?;
        }
        Ok(recorded)
    }

    /// The events of one call behind one place of the partition, for whoever shows them, and the last place that was read. One event
    /// that was damaged must not hide the others: what cannot be opened stays as it is recorded, and what is no event is left out.
    ///
    /// # Errors
    /// [`LoadError::Unavailable`], and [`LoadError::Keys`] where a key is missing, which may pass.
    pub async fn load_after(&self, subject: &CallSubject, stream_sequence: u64) -> Result<(Vec<Recorded>, u64), LoadError> {
        let name = subject.to_string();
        let (mut shown, mut read) = (Vec::new(), stream_sequence);
        while let Some(message) = self.next_message(subject.partition, &name, read + 1).await? {
            read = message.sequence;
            let envelope = match Envelope::decode(&message.payload) {
                Ok(envelope) => envelope,
                Err(error) => {
                    tracing::error!(error = %error, subject = name, stream_sequence = read, "an event cannot be read, and is not shown");
                    continue;
                }
            };
            let envelope = match self.keys().open(envelope.clone()).await {
                Err(KeyError::Broken(reason)) => {
                    tracing::error!(
                        reason,
                        subject = name,
                        stream_sequence = read,
                        "an event is shown as it is recorded, because it cannot be opened"
                    );
                    envelope
                }
                opened => opened?,
            };
            shown.push(Recorded { stream_sequence: read, envelope, payload: message.payload });
        }
        Ok((shown, read))
    }

    /// The same as [`Self::load`] without a look at the content.
    pub(crate) async fn load_as_recorded(&self, subject: &CallSubject) -> Result<Vec<Recorded>, LoadError> {
        let name = subject.to_string();
        let mut recorded = Vec::new();
        let mut from = 1;
        while let Some(message) = self.next_message(subject.partition, &name, from).await? {
            from = message.sequence + 1;
            let envelope = Envelope::decode(&message.payload)?;
            recorded.push(Recorded { stream_sequence: message.sequence, envelope, payload: message.payload });
        }
        Ok(recorded)
    }

    /// The subject of a call of which only the id is known.
    ///
    /// # Errors
    /// [`LoadError`]
    pub async fn locate(&self, tenant: TenantId, call: CallId) -> Result<Option<CallSubject>, LoadError> {
        let partition = Partition::of(tenant, self.partitions);
        let name = format!("ev.{partition}.{tenant}.*.{call}");
        let mut from = 1;
        while let Some(message) = self.next_message(partition, &name, from).await? {
            let subject = CallSubject::parse(&message.subject)?;
            // A refusal is no call, and neither is an erasure, whoever asks for its id.
            if subject.lane.is_of_calls() {
                return Ok(Some(subject));
            }
            from = message.sequence + 1;
        }
        Ok(None)
    }

    /// The event at one place of the log, as it was recorded.
    ///
    /// # Errors
    /// [`LoadError`]
    pub async fn event_at(&self, partition: Partition, stream_sequence: u64) -> Result<Option<Envelope>, LoadError> {
        let message = found(self.stream(partition).raw_message_builder().sequence(stream_sequence).send().await)?;
        Ok(message.map(|message| Envelope::decode(&message.payload)).transpose()?)
    }

    /// The message at one place of the log as it stands there, whether or not anybody can read it; `None` when the place is empty.
    ///
    /// # Errors
    /// [`LoadError::Unavailable`]
    pub async fn message_at(&self, partition: Partition, stream_sequence: u64) -> Result<Option<Received>, LoadError> {
        let message = found(self.stream(partition).raw_message_builder().sequence(stream_sequence).send().await)?;
        Ok(message.map(|message| Received {
            partition,
            stream_sequence: message.sequence,
            subject: message.subject.to_string(),
            payload: message.payload,
        }))
    }

    async fn next_message(
        &self,
        partition: Partition,
        subject: &str,
        from: u64,
    ) -> Result<Option<jetstream::message::StreamMessage>, LoadError> {
        found(self.stream(partition).get_first_raw_message_by_subject(subject, from).await)
    }
}

fn found(
    answer: Result<jetstream::message::StreamMessage, jetstream::stream::RawMessageError>,
) -> Result<Option<jetstream::message::StreamMessage>, LoadError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            jetstream::stream::LastRawMessageErrorKind::NoMessageFound => Ok(None),
            jetstream::stream::LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            _ => Err(LoadError::Unavailable(error.to_string())),
        },
    }
}

/// The call that `recorded` tells of.
///
/// # Errors
/// [`DecodeError`] when one of the events cannot be understood.
pub fn fold(recorded: &[Recorded]) -> Result<ToolCall, DecodeError> {
    let mut call = ToolCall::default();
    for event in recorded {
        if let Some(event) = event.envelope.event()?.into_tool_call() {
            call.evolve(event);
        }
    }
    Ok(call)
}
