use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    CallId, DecodeError, Event, RefusalEvent, TenantId, ToolCallEvent,
    sealing::{self, Member},
    serde_text, upcast,
};

/// One event as it stands in the log. The stream sequence is the broker's and is not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub event_id: Uuid,
    pub event_type: String,
    pub event_version: u32,
    pub tenant_id: TenantId,
    pub aggregate_type: String,
    /// The call, or the refusal.
    pub aggregate_id: CallId,
    /// 1 for the first event of the aggregate.
    #[serde(with = "serde_text::u64_string")]
    pub aggregate_sequence: u64,
    pub correlation_id: Uuid,
    pub causation_id: Option<Uuid>,
    /// The principal's subject, or the worker's name.
    pub actor: String,
    #[serde(with = "serde_text::timestamp")]
    pub occurred_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_context: Option<TraceContext>,
    pub data: Value,
    /// In process only: what is read from the log is as it was recorded.
    #[serde(skip)]
    pub form: Form,
}

/// Whether the content in `data` is as it was recorded, or as it was said. The two look alike to a program: what is sealed is JSON
/// too, and a caller could send something that looks sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As in the log: sealed, in versions that are.
    #[default]
    Recorded,
    /// To be read, and never to be written anywhere.
    Open,
}

/// W3C Trace Context of the request that caused the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    pub traceparent: String,
}

/// What the domain may not make for itself: the identity and the time of a new event.
#[derive(Clone, Debug)]
pub struct Stamp {
    pub event_id: Uuid,
    pub occurred_at: DateTime<Utc>,
    pub actor: String,
    pub causation_id: Option<Uuid>,
    pub trace_context: Option<TraceContext>,
}

impl Envelope {
    /// A new event, open. Its correlation id is the call's, so that everything a call caused is found by one id.
    ///
    /// # Errors
    /// None for the event types of this release; the signature is serde's.
    pub fn seal(
        event: &ToolCallEvent,
        tenant_id: TenantId,
        call_id: CallId,
        aggregate_sequence: u64,
        stamp: Stamp,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            event_id: stamp.event_id,
            event_type: event.name().to_owned(),
            event_version: event.version(),
            tenant_id,
            aggregate_type: "tool_call".to_owned(),
            aggregate_id: call_id,
            aggregate_sequence,
            correlation_id: call_id.0,
            causation_id: stamp.causation_id,
            actor: stamp.actor,
            occurred_at: stamp.occurred_at,
            trace_context: stamp.trace_context,
            data: event.data()?,
            form: Form::Open,
        })
    }

    /// A new refusal. It is an aggregate of this one event and has its id.
    ///
    /// # Errors
    /// None for the event types of this release; the signature is serde's.
    pub fn seal_refusal(event: &RefusalEvent, tenant_id: TenantId, stamp: Stamp) -> Result<Self, serde_json::Error> {
        Ok(Self {
            event_id: stamp.event_id,
            event_type: event.name().to_owned(),
            event_version: event.version(),
            tenant_id,
            aggregate_type: RefusalEvent::AGGREGATE_TYPE.to_owned(),
            aggregate_id: CallId(stamp.event_id),
            aggregate_sequence: 1,
            correlation_id: stamp.event_id,
            causation_id: stamp.causation_id,
            actor: stamp.actor,
            occurred_at: stamp.occurred_at,
            trace_context: stamp.trace_context,
            data: event.data()?,
            form: Form::Open,
        })
    }

    /// The bytes that go to the log.
    ///
    /// # Errors
    /// When it holds content that is not sealed: that never leaves the process in this form.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        if self.form == Form::Open && !self.sealed_members().is_empty() {
            return Err(serde::ser::Error::custom("an open event is not to be written"));
        }
        serde_json::to_vec(self)
    }

    /// The members that are sealed when it is recorded.
    pub fn sealed_members(&self) -> &'static [Member] {
        sealing::members(&self.event_type, self.event_version)
    }

    /// The pseudonym of whoever its content is about.
    pub fn data_subject(&self) -> Option<&str> {
        sealing::data_subject(&self.data)
    }

    /// The event as it is recorded. What is as recorded already stays as it is.
    ///
    /// # Errors
    /// Those of `seal`.
    pub fn sealed_by<E>(&self, mut seal: impl FnMut(Member, &Value) -> Result<Value, E>) -> Result<Self, E> {
        let mut sealed = Self { form: Form::Recorded, ..self.clone() };
        if self.form == Form::Open {
            for member in self.sealed_members() {
                if let Some(place) = sealed.data.pointer_mut(member.pointer()) {
                    *place = seal(*member, place)?;
                }
            }
        }
        Ok(sealed)
    }

    /// The event for whoever needs none of its content, which is left out.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        for member in self.sealed_members() {
            if let Some(place) = self.data.pointer_mut(member.pointer()) {
                *place = member.placeholder();
            }
        }
        self.form = Form::Open;
        self
    }

    /// # Errors
    /// [`DecodeError::Malformed`] when the bytes are no envelope. An unknown type or version is no error here: see [`Self::event`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))
    }

    /// The event inside, brought to its current version.
    ///
    /// # Errors
    /// [`DecodeError`] for an unknown type, a newer version, or data that does not fit its version; [`DecodeError::Sealed`] when its
    /// content was not opened.
    pub fn event(&self) -> Result<Event, DecodeError> {
        if self.form == Form::Recorded && !self.sealed_members().is_empty() {
            return Err(DecodeError::Sealed { event_type: self.event_type.clone(), version: self.event_version });
        }
        upcast(&self.event_type, self.event_version, &self.data)
    }
}
