use bytes::Bytes;
use toolgate_events::{CallSubject, DecodeError, Envelope, ToolCall, ToolCallEvent, TraceContext};
use toolgate_store::{AppendError, Delivery, Expect, LoadError, Recorded, fold};
use uuid::Uuid;

use crate::call::{APPEND_PATIENCE, Abandoned, Context, LAST_PAUSE};

/// A call as far as this worker knows it.
pub struct Held {
    pub subject: CallSubject,
    pub call: ToolCall,
    pub last_sequence: u64,
    aggregate_sequence: u64,
    last_event: Uuid,
    trace_context: Option<TraceContext>,
}

impl Held {
    /// A call of which nothing but its request is known.
    pub fn requested(subject: CallSubject, delivery: &Delivery, envelope: Envelope, request: ToolCallEvent) -> Self {
        let mut call = ToolCall::default();
        call.evolve(request);
        Self {
            subject,
            call,
            last_sequence: delivery.stream_sequence,
            aggregate_sequence: envelope.aggregate_sequence,
            last_event: envelope.event_id,
            trace_context: envelope.trace_context,
        }
    }

    pub fn of(subject: CallSubject, recorded: &[Recorded]) -> Result<Self, Abandoned> {
        let Some(last) = recorded.last() else {
            return Err(LoadError::Unavailable("a delivered call is not in the log yet".to_owned()).into());
        };
        Ok(Self {
            subject,
            call: fold(recorded)?,
            last_sequence: last.stream_sequence,
            aggregate_sequence: last.envelope.aggregate_sequence,
            last_event: last.envelope.event_id,
            trace_context: last.envelope.trace_context.clone(),
        })
    }

    pub async fn reload(&mut self, context: &Context) -> Result<(), Abandoned> {
        let recorded = context.environment.log.load(&self.subject).await?;
        *self = Self::of(self.subject.clone(), &recorded)?;
        Ok(())
    }

    /// What was done must not be lost to a log that cannot be read for a moment.
    pub async fn reload_until_answered(&mut self, context: &Context) -> Result<(), Abandoned> {
        while let Err(error) = self.reload(context).await {
            if !matches!(error, Abandoned::Load(LoadError::Unavailable(_) | LoadError::Keys(_))) {
                return Err(error);
            }
            tracing::warn!(error = %error, subject = %self.subject, "the log does not tell yet how a call stands");
            if context.shutdown.run_until_cancelled(tokio::time::sleep(LAST_PAUSE)).await.is_none() {
                return Err(Abandoned::Shutdown);
            }
        }
        Ok(())
    }

    /// Appends what was decided and moves on with it; answers with the event's bytes.
    pub async fn append(&mut self, context: &Context, event: ToolCallEvent) -> Result<Bytes, Abandoned> {
        let log = &context.environment.log;
        // What goes out and what is announced is the same, and sealed.
        let envelope = log.keys().seal(&self.envelope(context, &event)?).await.map_err(AppendError::from)?;
        let expect = Expect(self.last_sequence);
        let sequence = log.append(&self.subject, &envelope, expect, None, APPEND_PATIENCE).await?;
        self.call.evolve(event);
        self.last_sequence = sequence;
        self.aggregate_sequence += 1;
        self.last_event = envelope.event_id;
        Ok(envelope.encode()?.into())
    }

    /// [`Self::append`] of a claim. Where the log does not say what became of it, it is asked until it does: a claim that stands
    /// and is not known to be ours would look as if another worker had run the call.
    pub async fn append_claim(&mut self, context: &Context, event: ToolCallEvent) -> Result<(), Abandoned> {
        let envelope = self.envelope(context, &event)?;
        loop {
            let expect = Expect(self.last_sequence);
            let log = &context.environment.log;
            match log.append(&self.subject, &envelope, expect, None, APPEND_PATIENCE).await {
                Ok(sequence) => {
                    self.call.evolve(event);
                    self.last_sequence = sequence;
                    self.aggregate_sequence += 1;
                    self.last_event = envelope.event_id;
                    return Ok(());
                }
                Err(AppendError::Unknown) => {
                    self.reload_until_answered(context).await?;
                    if self.last_event == envelope.event_id {
                        return Ok(());
                    }
                    if Expect(self.last_sequence) != expect {
                        return Err(AppendError::Conflict.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn envelope(&self, context: &Context, event: &ToolCallEvent) -> Result<Envelope, serde_json::Error> {
        let clock = &context.environment.clock;
        let stamp = clock.stamp(context.name.clone(), Some(self.last_event), self.trace_context.clone());
        Envelope::seal(event, self.subject.tenant_id, self.subject.call_id, self.aggregate_sequence + 1, stamp)
    }
}

/// The outcome among a call's events: where it is, and its bytes.
pub fn outcome_of(recorded: &[Recorded]) -> Result<Option<(u64, Bytes)>, Abandoned> {
    let Some(last) = recorded.last() else { return Ok(None) };
    if !is_outcome(&last.envelope)? {
        return Ok(None);
    }
    Ok(Some((last.stream_sequence, last.payload.clone())))
}

fn is_outcome(envelope: &Envelope) -> Result<bool, DecodeError> {
    Ok(envelope.event()?.into_tool_call().is_some_and(|event| event.is_outcome()))
}
