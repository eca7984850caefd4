use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use toolgate_events::{CallId, CallSubject, DecodeError, Envelope, Lane, Partition, SubjectError, TenantId, ToolCall};

use crate::{KeyError, Log};

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

    /// The same without a look at the content.
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
            // A refusal is no call, whoever asks for its id.
            if subject.lane != Lane::refusal() {
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
