//! Real events as moulds: the floor writes the same bytes as ours, only with ids of its own.

use std::{fs, path::Path};

use bytes::Bytes;
use toolgate_events::{CallSubject, Envelope};
use toolgate_store::bare::BareEvent;
use uuid::{Uuid, fmt::Hyphenated};

use super::Error;

/// An event's bytes with the places where its ids stand.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    tenants: Vec<usize>,
    calls: Vec<usize>,
    events: Vec<usize>,
    event_type: String,
    traceparent: Option<String>,
}

impl Template {
    /// # Errors
    /// When the envelope cannot be written.
    pub fn of(envelope: &Envelope) -> Result<Self, Error> {
        let bytes = envelope.encode()?;
        let places = |id: Uuid| {
            let id = id.hyphenated().to_string();
            let windows = bytes.windows(Hyphenated::LENGTH).enumerate();
            windows.filter(|(_, window)| *window == id.as_bytes()).map(|(place, _)| place).collect::<Vec<_>>()
        };
        Ok(Self {
            tenants: places(envelope.tenant_id.0),
            calls: places(envelope.aggregate_id.0),
            events: places(envelope.event_id),
            event_type: format!("{}.v{}", envelope.event_type, envelope.event_version),
            traceparent: envelope.trace_context.as_ref().map(|trace| trace.traceparent.clone()),
            bytes,
        })
    }

    /// Writes an event where the children of the bench find it.
    pub fn store(envelope: &Envelope, path: &Path) -> Result<(), Error> {
        fs::write(path, envelope.encode()?).map_err(|source| Error::File { path: path.to_owned(), source })
    }

    /// What [`Template::store`] wrote.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::of(&Envelope::decode(&bytes)?)
    }

    /// The event for another call, with the headers that the store would give it.
    pub fn fill(&self, subject: &CallSubject, event_id: Uuid) -> BareEvent {
        let mut payload = self.bytes.clone();
        let ids = [(&self.tenants, subject.tenant_id.0), (&self.calls, subject.call_id.0), (&self.events, event_id)];
        for (places, id) in ids {
            for place in places {
                id.hyphenated().encode_lower(&mut payload[*place..*place + Hyphenated::LENGTH]);
            }
        }
        let mut headers = vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", event_id.to_string()),
            ("ce-source", "/toolgate".to_owned()),
            ("ce-type", self.event_type.clone()),
        ];
        headers.extend(self.traceparent.clone().map(|traceparent| ("traceparent", traceparent)));
        BareEvent { headers, payload: Bytes::from(payload) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use toolgate_events::{CallId, Lane, TenantId};

    use super::*;

    #[test]
    fn a_filled_event_is_an_event_of_the_other_call() {
        let (old, new) = (Uuid::from_u128(0xabc << 64), Uuid::from_u128(7));
        let envelope: Envelope = serde_json::from_value(json!({
            "event_id": Uuid::from_u128(1), "event_type": "tool_call_requested", "event_version": 2, "tenant_id": Uuid::from_u128(2),
            "aggregate_type": "tool_call", "aggregate_id": old, "aggregate_sequence": "1", "correlation_id": old,
            "causation_id": null, "actor": "bench", "occurred_at": "2026-01-01T00:00:00Z", "data": {"text": "x"},
        }))
        .unwrap();
        let template = Template::of(&envelope).unwrap();
        let subject = CallSubject::new(16, TenantId(Uuid::from_u128(3)), Lane::new("bench").unwrap(), CallId(new));
        let filled = template.fill(&subject, Uuid::from_u128(9));
        let read = Envelope::decode(&filled.payload).unwrap();
        assert_eq!(
            (read.tenant_id, read.aggregate_id, read.correlation_id, read.event_id),
            (subject.tenant_id, subject.call_id, new, Uuid::from_u128(9))
        );
        assert_eq!(filled.payload.len(), envelope.encode().unwrap().len());
    }
}
