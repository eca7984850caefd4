//! Pure: messages become numbered, chained, understood events. What cannot be understood is numbered and chained all the same.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Utc};
use serde_json::{Value, json};
use toolgate_events::{
    CallId, CallSubject, Envelope, Event, Form, Partition, TenantId, ToolCallEvent, audit, audit::AuditRow, canonical,
};
use toolgate_store::Received;
use uuid::Uuid;

/// Where a tenant's chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub position: u64,
    pub hash: String,
    /// Of the event at that position: what is not newer has its row already.
    pub stream_sequence: u64,
    /// The tenant's calls without an outcome.
    pub open_calls: u64,
}

impl Head {
    /// Before a tenant's first event.
    pub fn genesis(tenant: TenantId) -> Self {
        Self { position: 0, hash: audit::genesis_hash(tenant), stream_sequence: 0, open_calls: 0 }
    }
}

/// One event with its place in its tenant's history.
#[derive(Debug)]
pub struct Numbered {
    pub tenant_id: TenantId,
    pub row: AuditRow,
    /// The canonical form of the row's data: what is hashed, and what the database keeps.
    pub data: String,
    pub traceparent: Option<String>,
    /// The event, or why it could not be understood.
    pub event: Result<Event, String>,
}

impl Numbered {
    pub fn call_id(&self) -> CallId {
        CallId(self.row.aggregate_id)
    }

    pub fn occurred_at(&self) -> DateTime<Utc> {
        self.row.occurred_at
    }
}

/// Numbers and chains a message, moving its tenant's head on; `opened` is its event as it was said, where it is sealed. `None` for a message that belongs to no tenant, and for one that has
/// its position already: history is numbered once, wherever a checkpoint may have been moved to.
pub fn number(
    message: &Received,
    opened: Option<Result<&Envelope, String>>,
    partitions: u16,
    heads: &mut HashMap<TenantId, Head>,
) -> Option<Numbered> {
    let tenant_id = tenant_of(message, partitions)?;
    let head = heads.entry(tenant_id).or_insert_with(|| Head::genesis(tenant_id));
    if message.stream_sequence <= head.stream_sequence {
        return None;
    }
    let read = Envelope::decode(&message.payload).map_err(|error| error.to_string()).and_then(|envelope| {
        match flaw(&envelope, tenant_id) {
            None => Ok(envelope),
            Some(flaw) => Err(flaw.to_owned()),
        }
    });
    let (envelope, event) = match read {
        Ok(envelope) => {
            let holds_nul = match &opened {
                Some(Ok(opened)) => contains_nul(&opened.data),
                _ => contains_nul(&envelope.data),
            };
            let event = if holds_nul {
                Err("a string contains U+0000, which no read model can hold".to_owned())
            } else {
                opened.unwrap_or(Ok(&envelope)).and_then(|envelope| envelope.event().map_err(|error| error.to_string()))
            };
            (envelope, event)
        }
        Err(reason) => (unreadable(message, tenant_id), Err(reason)),
    };
    let mut row = AuditRow {
        position: head.position + 1,
        stream_sequence: message.stream_sequence,
        event_id: envelope.event_id,
        event_type: envelope.event_type,
        event_version: envelope.event_version,
        aggregate_type: envelope.aggregate_type,
        aggregate_id: envelope.aggregate_id.0,
        aggregate_sequence: envelope.aggregate_sequence,
        actor: envelope.actor,
        occurred_at: envelope.occurred_at,
        correlation_id: envelope.correlation_id,
        causation_id: envelope.causation_id,
        data: envelope.data,
        prev_hash: std::mem::take(&mut head.hash),
        hash: String::new(),
    };
    let data = canonical::to_string(&row.data);
    row.hash = row.hash_over(&data);
    let open_calls = match &event {
        Ok(Event::ToolCall(ToolCallEvent::ToolCallRequested(_))) => head.open_calls + 1,
        // An outcome without a request is a stranger's.
        Ok(Event::ToolCall(event)) if event.is_outcome() => head.open_calls.saturating_sub(1),
        _ => head.open_calls,
    };
    *head = Head { position: row.position, hash: row.hash.clone(), stream_sequence: row.stream_sequence, open_calls };
    Some(Numbered { tenant_id, row, data, traceparent: envelope.trace_context.map(|trace| trace.traceparent), event })
}

/// What keeps an envelope from being a row of the audit trail. Only a foreign publisher writes such a thing.
fn flaw(envelope: &Envelope, tenant_id: TenantId) -> Option<&'static str> {
    let texts = [&envelope.event_type, &envelope.aggregate_type, &envelope.actor];
    let traceparent = envelope.trace_context.as_ref().map(|trace| &trace.traceparent);
    if envelope.tenant_id != tenant_id {
        Some("the event names another tenant than its subject")
    } else if texts.into_iter().chain(traceparent).any(|text| text.contains('\0')) {
        Some("a field contains U+0000")
    } else if i32::try_from(envelope.event_version).is_err() || i64::try_from(envelope.aggregate_sequence).is_err() {
        Some("a number is out of range")
    } else if !(0..=9999).contains(&envelope.occurred_at.year()) {
        Some("occurred_at is out of range")
    } else {
        None
    }
}

fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(members) => members.iter().any(|(key, member)| key.contains('\0') || contains_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The tenant of a message, by its subject. A tenant lives in one partition; what is found in another is nobody's.
pub fn tenant_of(message: &Received, partitions: u16) -> Option<TenantId> {
    let tenant = message.subject.split('.').nth(2)?.parse().ok()?;
    (Partition::of(tenant, partitions) == message.partition).then_some(tenant)
}

/// A stand-in for bytes that are no envelope: the trail shows them as they are, in hexadecimal. Everything in it follows from the
/// message alone, so that projecting it again gives the same hash.
fn unreadable(message: &Received, tenant_id: TenantId) -> Envelope {
    let place = format!("{}/{}", message.partition, message.stream_sequence);
    let event_id = Uuid::new_v5(&tenant_id.0, place.as_bytes());
    let call_id = CallSubject::parse(&message.subject).map_or(CallId(event_id), |subject| subject.call_id);
    Envelope {
        event_id,
        event_type: "unreadable".to_owned(),
        event_version: 0,
        tenant_id,
        aggregate_type: "tool_call".to_owned(),
        aggregate_id: call_id,
        aggregate_sequence: 0,
        correlation_id: call_id.0,
        causation_id: None,
        actor: "unknown".to_owned(),
        occurred_at: DateTime::UNIX_EPOCH,
        trace_context: None,
        form: Form::Recorded,
        data: Value::Object(serde_json::Map::from_iter([("bytes".to_owned(), json!(canonical::hex(&message.payload)))])),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(stream_sequence: u64, tenant: u128, payload: &'static [u8]) -> Received {
        Received {
            partition: Partition(0),
            stream_sequence,
            subject: format!("ev.00.{}.search.{}", Uuid::from_u128(tenant), Uuid::from_u128(9)),
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn positions_are_gapless_per_tenant_and_chained() {
        let mut heads = HashMap::new();
        let rows: Vec<_> =
            (1..=4).map(|n| number(&message(n, u128::from(n % 2), b"not json"), None, 1, &mut heads).unwrap()).collect();
        for (tenant, indexes) in [(1, [0, 2]), (0, [1, 3])] {
            let tenant = TenantId(Uuid::from_u128(tenant));
            let genesis = audit::genesis_hash(tenant);
            let [first, second] = indexes.map(|index| &rows[index].row);
            assert_eq!(audit::verify((0, &genesis), first), Ok(()));
            assert_eq!(audit::verify((1, &first.hash), second), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_read_is_numbered_alike_every_time() {
        let once = number(&message(7, 1, b"\xff\x00"), None, 1, &mut HashMap::new()).unwrap();
        let again = number(&message(7, 1, b"\xff\x00"), None, 1, &mut HashMap::new()).unwrap();
        assert!(once.event.is_err());
        assert_eq!(once.row, again.row);
        assert_eq!(once.row.data, json!({"bytes": "ff00"}));
    }

    #[test]
    fn what_the_database_could_not_hold_is_set_aside_before_it_gets_there() {
        let envelope = json!({
            "event_id": Uuid::nil(), "event_type": "tool_call_started", "event_version": 1, "tenant_id": Uuid::from_u128(1),
            "aggregate_type": "tool_call", "aggregate_id": Uuid::from_u128(9), "aggregate_sequence": "2",
            "correlation_id": Uuid::nil(), "causation_id": null, "actor": "w", "occurred_at": "2030-01-01T00:00:00Z",
            "data": {"tool": "t", "attempt": 1, "worker": "w"}
        });
        let numbered = |path: &str, value: Value| {
            let mut envelope = envelope.clone();
            *envelope.pointer_mut(path).unwrap() = value;
            let payload = Bytes::from(serde_json::to_vec(&envelope).unwrap());
            number(&Received { payload, ..message(1, 1, b"") }, None, 1, &mut HashMap::new()).unwrap()
        };
        assert!(numbered("/actor", json!("w")).event.is_ok());
        for (path, value) in [
            ("/actor", json!("\0")),
            ("/event_version", json!(u32::MAX)),
            ("/aggregate_sequence", json!(u64::MAX.to_string())),
            ("/occurred_at", json!("+10000-01-01T00:00:00Z")),
            ("/tenant_id", json!(Uuid::from_u128(2))),
        ] {
            assert_eq!(numbered(path, value).row.event_type, "unreadable", "{path}");
        }
        let kept = numbered("/data/worker", json!("\0"));
        assert!(kept.event.is_err() && kept.row.event_type == "tool_call_started");
    }

    #[test]
    fn what_has_a_position_gets_no_second_one_and_a_stray_gets_none() {
        let mut heads = HashMap::new();
        assert!(number(&message(5, 1, b"x"), None, 1, &mut heads).is_some());
        assert!(number(&message(5, 1, b"x"), None, 1, &mut heads).is_none());
        assert!(number(&message(4, 1, b"x"), None, 1, &mut heads).is_none());
        assert_eq!(number(&message(6, 1, b"x"), None, 1, &mut heads).unwrap().row.position, 2);
        let elsewhere = (0..16).map(Partition).find(|partition| *partition != Partition::of(TenantId(Uuid::from_u128(1)), 16));
        let stray = Received { partition: elsewhere.unwrap(), ..message(7, 1, b"x") };
        assert!(number(&stray, None, 16, &mut heads).is_none());
    }

    #[test]
    fn requests_open_calls_and_outcomes_close_them() {
        let event = |sequence: u64, event_type: &str, data: Value| {
            let envelope = json!({
                "event_id": Uuid::from_u128(sequence.into()), "event_type": event_type, "event_version": 1,
                "tenant_id": Uuid::from_u128(1), "aggregate_type": "tool_call", "aggregate_id": Uuid::from_u128(9),
                "aggregate_sequence": sequence.to_string(), "correlation_id": Uuid::nil(), "causation_id": null, "actor": "w",
                "occurred_at": "2030-01-01T00:00:00Z", "data": data
            });
            Received { payload: Bytes::from(serde_json::to_vec(&envelope).unwrap()), ..message(sequence, 1, b"") }
        };
        let requested: Value = serde_json::from_str(include_str!("../../events/golden/tool_call_requested.v1.json")).unwrap();
        let requested = requested["data"].clone();
        let started = json!({"tool": "t", "attempt": 1, "worker": "w"});
        let cancelled: Value = serde_json::from_str(include_str!("../../events/golden/tool_call_cancelled.v1.json")).unwrap();
        let cancelled = cancelled["data"].clone();
        let mut heads = HashMap::new();
        let mut open_after = |message: Received| {
            number(&message, None, 1, &mut heads).unwrap();
            heads[&TenantId(Uuid::from_u128(1))].open_calls
        };
        assert_eq!(open_after(event(1, "tool_call_requested", requested.clone())), 1);
        assert_eq!(open_after(event(2, "tool_call_requested", requested)), 2);
        assert_eq!(open_after(event(3, "tool_call_started", started)), 2);
        assert_eq!(open_after(message(4, 1, b"not json")), 2);
        assert_eq!(open_after(event(5, "tool_call_cancelled", cancelled.clone())), 1);
        assert_eq!(open_after(event(6, "tool_call_cancelled", cancelled.clone())), 0);
        assert_eq!(open_after(event(7, "tool_call_cancelled", cancelled)), 0);
    }

    #[test]
    fn a_subject_without_a_tenant_has_no_place() {
        let stray = Received { subject: "ev.00.x".to_owned(), ..message(1, 1, b"{}") };
        assert!(number(&stray, None, 1, &mut HashMap::new()).is_none());
    }
}
