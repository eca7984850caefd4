use std::sync::Arc;

use cqrs_es::{
    EventEnvelope,
    persist::{EventUpcaster, SerializedEvent},
};
use toolgate_events::{
    DecodeError, Event, ToolCall, ToolCallEvent,
    audit::AuditRow,
    sealing::{self, Member},
    upcast,
};

use super::fold::Replaying;

/// Brings every recorded event to its current version. The only place where a replay turns recorded data into an event.
pub struct Upcaster(pub Arc<Replaying>);

impl EventUpcaster for Upcaster {
    fn can_upcast(&self, _event_type: &str, _event_version: &str) -> bool {
        true
    }

    fn upcast(&self, mut event: SerializedEvent) -> SerializedEvent {
        self.0.keep_recorded(&event);
        match current(&event) {
            Ok(payload) => event.payload = payload,
            // Left as it is, it does not become an event of the framework, which passes it over without a word.
            Err(reason) => self.0.pass_over(&event, reason.to_string()),
        }
        event
    }
}

/// What the framework does with a row of the table, for one that has left it.
pub fn replay(replaying: &Arc<Replaying>, row: AuditRow) {
    // The table's views do not show the others to the framework either.
    if row.aggregate_type != "tool_call" {
        return;
    }
    let metadata = serde_json::json!({
        "event_id": row.event_id, "occurred_at": row.occurred_at, "actor": row.actor, "event_type": row.event_type,
        "event_version": row.event_version.to_string(),
    });
    let sequence = usize::try_from(row.position).unwrap_or(usize::MAX);
    let (id, version) = (row.aggregate_id.to_string(), row.event_version.to_string());
    let event = SerializedEvent::new(id, sequence, row.aggregate_type, row.event_type, version, row.data, metadata);
    let event = Upcaster(Arc::clone(replaying)).upcast(event);
    if let Ok(event) = EventEnvelope::<ToolCall>::try_from(event) {
        replaying.gather(&event);
    }
}

fn current(event: &SerializedEvent) -> Result<serde_json::Value, DecodeError> {
    let unknown = || DecodeError::UnknownType(event.event_type.clone());
    let version = event.event_version.parse().map_err(|_| unknown())?;
    // A sealed detail of an error is no text. What was recorded is kept beside.
    let mut data = event.payload.clone();
    if sealing::members(&event.event_type, version).contains(&Member::ErrorDetail)
        && let Some(detail) = data.pointer_mut(Member::ErrorDetail.pointer())
    {
        *detail = Member::ErrorDetail.placeholder();
    }
    let event: ToolCallEvent = match upcast(&event.event_type, version, &data)? {
        Event::ToolCall(event) => event,
        Event::Refusal(_) | Event::Erasure(_) => return Err(unknown()),
    };
    serde_json::to_value(event).map_err(|error| DecodeError::Malformed(error.to_string()))
}
