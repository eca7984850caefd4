use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use tokio::time::Instant;
use toolgate_events::{CallSubject, Envelope};

use crate::{KeyError, LoadError, Log, announce::ReplyTo};

/// The CloudEvents attribute that holds `<event type>.v<version>`.
pub(crate) const EVENT_TYPE: &str = "ce-type";
/// "Wrong last sequence" on a stream with one replica.
const WRONG_LAST_SEQUENCE: u64 = 10071;
/// The same on a replicated stream.
const WRONG_LAST_SEQUENCE_REPLICATED: u64 = 10164;
/// Storage limits of the stream, the account, and the server.
const FULL: [u64; 3] = [10077, 10047, 10023];

/// What the aggregate's last event must be for an append to count: its stream sequence, or 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect(pub u64);

impl Expect {
    /// The aggregate has no events yet: of many writers exactly one wins.
    pub const NOTHING: Self = Self(0);
}

/// Why an event is not in the log, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another event is where this one was to go. Load and decide again.
    #[error("the aggregate has moved on")]
    Conflict,
    /// The log is at its size limit.
    #[error("the log is full")]
    Full,
    /// The event is larger than the broker takes.
    #[error("the event is larger than the log accepts")]
    TooLarge,
    /// The broker did not answer in time: the event may or may not be in the log. The same append again is safe.
    #[error("the log did not answer in time")]
    Unknown,
    /// Its content could not be sealed, so nothing was written.
    #[error("the event cannot be sealed: {0}")]
    Keys(#[from] KeyError),
    #[error("the event cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("the log refused the event: {0}")]
    Refused(PublishError),
}

impl Log {
    /// Appends one event, durable when this returns, and answers with its stream sequence. Content that is open is sealed first.
    ///
    /// Answers that say nothing (a timeout, a stream without a leader) are settled by reading the aggregate back, and the append
    /// is tried again until `patience` is over: with the expected sequence stated, a second copy can never be written.
    ///
    /// # Errors
    /// [`AppendError`]
    pub async fn append(
        &self,
        subject: &CallSubject,
        envelope: &Envelope,
        expect: Expect,
        reply_to: Option<&ReplyTo>,
        patience: Duration,
    ) -> Result<u64, AppendError> {
        let payload = Bytes::from(self.keys().seal(envelope).await?.encode()?);
        let headers = headers(envelope, reply_to);
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match self.publish(subject, headers.clone(), payload.clone(), expect).await {
                Ok(sequence) => return Ok(sequence),
                Err(error) => error,
            };
            match classify(&error) {
                Verdict::Conflict => {
                    // An earlier attempt of this very append may be what it conflicts with.
                    return match self.find_event(subject, envelope).await {
                        Ok(Some(sequence)) => Ok(sequence),
                        Ok(None) => Err(AppendError::Conflict),
                        Err(_) => Err(AppendError::Unknown),
                    };
                }
                Verdict::Full => return Err(AppendError::Full),
                Verdict::TooLarge => return Err(AppendError::TooLarge),
                Verdict::Refused => return Err(AppendError::Refused(error)),
                Verdict::Unknown => {
                    tracing::warn!(error = %error, subject = %subject, "append unanswered; reading back");
                    if let Ok(Some(sequence)) = self.find_event(subject, envelope).await {
                        return Ok(sequence);
                    }
                    if Instant::now() + pause > deadline {
                        return Err(AppendError::Unknown);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    async fn publish(
        &self,
        subject: &CallSubject,
        headers: HeaderMap,
        payload: Bytes,
        expect: Expect,
    ) -> Result<u64, PublishError> {
        let message = PublishMessage::build().headers(headers).payload(payload).expected_last_subject_sequence(expect.0);
        let ack = self.context.send_publish(subject.to_string(), message).await?.await?;
        Ok(ack.sequence)
    }

    async fn find_event(&self, subject: &CallSubject, envelope: &Envelope) -> Result<Option<u64>, LoadError> {
        let recorded = self.load_as_recorded(subject).await?;
        Ok(recorded.into_iter().find(|event| event.envelope.event_id == envelope.event_id).map(|event| event.stream_sequence))
    }
}

pub(crate) enum Verdict {
    Conflict,
    Full,
    TooLarge,
    Unknown,
    Refused,
}

pub(crate) fn classify(error: &PublishError) -> Verdict {
    use std::error::Error as _;
    // async-nats names only the first of the two conflict codes, so the raw code decides.
    let code = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>()).map(|error| error.error_code().0);
    match code {
        Some(WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_REPLICATED) => return Verdict::Conflict,
        Some(code) if FULL.contains(&code) => return Verdict::Full,
        _ => {}
    }
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Verdict::Conflict,
        PublishErrorKind::MaxPayloadExceeded => Verdict::TooLarge,
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::StreamNotFound
        | PublishErrorKind::MaxAckPending => Verdict::Unknown,
        PublishErrorKind::Other | PublishErrorKind::WrongLastMessageId => Verdict::Refused,
    }
}

/// CloudEvents 1.0 attributes in binary mode, so that a consumer can route without reading the body.
fn headers(envelope: &Envelope, reply_to: Option<&ReplyTo>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-id", envelope.event_id.to_string());
    headers.insert("ce-source", "/toolgate");
    headers.insert(EVENT_TYPE, format!("{}.v{}", envelope.event_type, envelope.event_version));
    if let Some(trace) = &envelope.trace_context {
        headers.insert("traceparent", trace.traceparent.as_str());
    }
    if let Some(reply_to) = reply_to {
        headers.insert(ReplyTo::HEADER, reply_to.as_str());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u64) -> PublishError {
        let source: jetstream::Error = serde_json::from_value(serde_json::json!({"code": 400, "err_code": code})).unwrap();
        PublishError::with_source(PublishErrorKind::Other, source)
    }

    #[test]
    fn both_conflict_codes_are_conflicts() {
        for code in [10071, 10164] {
            assert!(matches!(classify(&refused(code)), Verdict::Conflict), "{code}");
        }
        assert!(matches!(classify(&refused(10077)), Verdict::Full));
        assert!(matches!(classify(&refused(10025)), Verdict::Refused));
    }

    #[test]
    fn silence_is_never_taken_for_an_answer() {
        for kind in [PublishErrorKind::TimedOut, PublishErrorKind::BrokenPipe, PublishErrorKind::StreamNotFound] {
            assert!(matches!(classify(&PublishError::new(kind)), Verdict::Unknown), "{kind:?}");
        }
    }
}
