use axum::response::sse::Event;
use chrono::{DateTime, Utc};
use toolgate_events::audit::AuditRow;
use toolgate_security::{CloudEvent, event_frame};
use uuid::Uuid;

use crate::queries::audit::StreamedRow;

/// One event, rendered once for all the clients it goes to.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub position: u64,
    /// As the log has it.
    pub event_type: String,
    pub call_id: Uuid,
    pub occurred_at: DateTime<Utc>,
    pub session_id: Option<String>,
    /// The CloudEvent.
    pub json: String,
}

impl Rendered {
    /// The one place where what is stored becomes what a subscriber sees.
    pub(crate) fn new(tenant: Uuid, row: StreamedRow) -> Result<Self, serde_json::Error> {
        let StreamedRow { audit, session_id, traceparent } = row;
        let event = CloudEvent::of_row(tenant, &audit, session_id.as_deref(), traceparent.as_deref());
        let json = serde_json::to_string(&event)?;
        let AuditRow { position, event_type, aggregate_id: call_id, occurred_at, .. } = audit;
        Ok(Self { position, event_type, call_id, occurred_at, session_id, json })
    }

    pub(crate) fn frame(&self) -> Event {
        event_frame(Some(self.position), &self.event_type, &self.json)
    }

    /// In memory, in bytes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.json.len() + self.event_type.len() + self.session_id.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
pub(super) fn rendered(position: u64, bytes: usize) -> Rendered {
    Rendered {
        position,
        event_type: "tool_call_requested".to_owned(),
        call_id: Uuid::from_u128(2),
        occurred_at: DateTime::UNIX_EPOCH,
        session_id: None,
        json: "x".repeat(bytes),
    }
}
