use std::{collections::HashMap, time::Duration};

use cqrs_es::{AggregateContext, AggregateError, EventEnvelope, EventStore};
use toolgate_events::{CallId, CallSubject, Envelope, Lane, Stamp, SubjectError, TenantId, ToolCall, ToolCallEvent};

use crate::{AppendError, Expect, LoadError, Log, fold};

/// The log as cqrs-es's event store. The aggregate id is `<tenant_id>.<lane>.<call_id>`: the end of the call's subject.
///
/// The identity and time of a new event come from outside, through the metadata keys `event_id`, `occurred_at` (RFC 3339) and
/// `actor`.
#[derive(Clone, Debug)]
pub struct JetStreamEventStore {
    log: Log,
}

/// A loaded call and where its history ends.
#[derive(Debug)]
pub struct StoreContext {
    subject: CallSubject,
    call: ToolCall,
    last_sequence: u64,
    aggregate_sequence: u64,
}

/// Why the store could not do what the framework asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the metadata has no valid {0}")]
    Metadata(&'static str),
    #[error("one decision is one event; this one made {0}")]
    NotOneEvent(usize),
}

type Failure = AggregateError<toolgate_events::tool_call::Error>;

impl JetStreamEventStore {
    pub fn new(log: Log) -> Self {
        Self { log }
    }

    fn subject(&self, aggregate_id: &str) -> Result<CallSubject, StoreError> {
        let unknown = || SubjectError::Subject(aggregate_id.to_owned());
        let [tenant, lane, call] = <[&str; 3]>::try_from(aggregate_id.split('.').collect::<Vec<_>>()).map_err(|_| unknown())?;
        let tenant: TenantId = tenant.parse().map_err(|_| unknown())?;
        let call: CallId = call.parse().map_err(|_| unknown())?;
        Ok(CallSubject::new(self.log.partitions(), tenant, Lane::new(lane)?, call))
    }
}

impl AggregateContext<ToolCall> for StoreContext {
    fn aggregate(&mut self) -> &mut ToolCall {
        &mut self.call
    }
}

impl EventStore<ToolCall> for JetStreamEventStore {
    type AC = StoreContext;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<ToolCall>>, Failure> {
        let subject = self.subject(aggregate_id).map_err(failure)?;
        let recorded = self.log.load(&subject).await.map_err(|error| failure(error.into()))?;
        recorded
            .into_iter()
            .filter_map(|event| match event.envelope.event() {
                Ok(payload) => Some(Ok(framework_envelope(aggregate_id, payload.into_tool_call()?, &event.envelope))),
                Err(error) => Some(Err(AggregateError::DeserializationError(error.into()))),
            })
            .collect()
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<StoreContext, Failure> {
        let subject = self.subject(aggregate_id).map_err(failure)?;
        let recorded = self.log.load(&subject).await.map_err(|error| failure(error.into()))?;
        let call = fold(&recorded).map_err(|error| AggregateError::DeserializationError(error.into()))?;
        let last = recorded.last();
        Ok(StoreContext {
            subject,
            call,
            last_sequence: last.map_or(0, |event| event.stream_sequence),
            aggregate_sequence: last.map_or(0, |event| event.envelope.aggregate_sequence),
        })
    }

    async fn commit(
        &self,
        events: Vec<ToolCallEvent>,
        context: StoreContext,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<ToolCall>>, Failure> {
        let [event] = <[ToolCallEvent; 1]>::try_from(events).map_err(|events| failure(StoreError::NotOneEvent(events.len())))?;
        let stamp = stamp(&metadata).map_err(failure)?;
        let StoreContext { subject, last_sequence, aggregate_sequence, .. } = context;
        let envelope = Envelope::seal(&event, subject.tenant_id, subject.call_id, aggregate_sequence + 1, stamp)
            .map_err(|error| AggregateError::UnexpectedError(error.into()))?;
        match self.log.append(&subject, &envelope, Expect(last_sequence), None, Duration::from_secs(5)).await {
            Ok(_) => {
                let id = format!("{}.{}.{}", subject.tenant_id, subject.lane, subject.call_id);
                Ok(vec![framework_envelope(&id, event, &envelope)])
            }
            Err(AppendError::Conflict) => Err(AggregateError::AggregateConflict),
            Err(error) => Err(failure(error.into())),
        }
    }
}

fn stamp(metadata: &HashMap<String, String>) -> Result<Stamp, StoreError> {
    let text = |key: &'static str| metadata.get(key).ok_or(StoreError::Metadata(key));
    Ok(Stamp {
        event_id: text("event_id")?.parse().map_err(|_| StoreError::Metadata("event_id"))?,
        occurred_at: text("occurred_at")?.parse().map_err(|_| StoreError::Metadata("occurred_at"))?,
        actor: text("actor")?.clone(),
        causation_id: metadata.get("causation_id").and_then(|id| id.parse().ok()),
        trace_context: None,
    })
}

fn framework_envelope(aggregate_id: &str, payload: ToolCallEvent, envelope: &Envelope) -> EventEnvelope<ToolCall> {
    EventEnvelope {
        aggregate_id: aggregate_id.to_owned(),
        sequence: usize::try_from(envelope.aggregate_sequence).unwrap_or(usize::MAX),
        payload,
        metadata: HashMap::from([
            ("event_id".to_owned(), envelope.event_id.to_string()),
            ("occurred_at".to_owned(), envelope.occurred_at.to_rfc3339()),
            ("actor".to_owned(), envelope.actor.clone()),
        ]),
    }
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Load(LoadError::Decode(error)) => AggregateError::DeserializationError(error.into()),
        StoreError::Load(LoadError::Unavailable(_) | LoadError::Keys(_)) | StoreError::Append(_) => {
            AggregateError::DatabaseConnectionError(error.into())
        }
        error => AggregateError::UnexpectedError(error.into()),
    }
}
