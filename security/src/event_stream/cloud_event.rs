use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use toolgate_events::{Envelope, audit::AuditRow, serde_text};
use utoipa::ToSchema;
use uuid::Uuid;

const SPEC_VERSION: &str = "1.0";
const SOURCE: &str = "/toolgate";
const CONTENT_TYPE: &str = "application/json";

/// An event as CloudEvents 1.0 has it, in JSON format. The extension attributes are lower case without separators, as the
/// specification asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudEvent<'a> {
    #[schema(example = "1.0")]
    specversion: &'static str,
    id: Uuid,
    #[schema(example = "/toolgate")]
    source: &'static str,
    #[serde(rename = "type")]
    event_type: &'a str,
    /// The call, or the refusal.
    subject: Uuid,
    #[serde(with = "serde_text::timestamp")]
    #[schema(value_type = String, format = DateTime)]
    time: DateTime<Utc>,
    #[schema(example = "application/json")]
    datacontenttype: &'static str,
    /// Per tenant, gapless. Only the stream of one call may have to leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    position: Option<String>,
    tenantid: Uuid,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    aggregatesequence: u64,
    correlationid: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    causationid: Option<Uuid>,
    actor: &'a str,
    dataversion: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sessionid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    traceparent: Option<&'a str>,
    #[schema(value_type = Object)]
    data: &'a Value,
}

impl<'a> CloudEvent<'a> {
    /// An event as the audit trail has it.
    pub fn of_row(tenant: Uuid, row: &'a AuditRow, sessionid: Option<&'a str>, traceparent: Option<&'a str>) -> Self {
        Self {
            specversion: SPEC_VERSION,
            id: row.event_id,
            source: SOURCE,
            event_type: &row.event_type,
            subject: row.aggregate_id,
            time: row.occurred_at,
            datacontenttype: CONTENT_TYPE,
            position: Some(row.position.to_string()),
            tenantid: tenant,
            aggregatesequence: row.aggregate_sequence,
            correlationid: row.correlation_id,
            causationid: row.causation_id,
            actor: &row.actor,
            dataversion: row.event_version,
            sessionid,
            traceparent,
            data: &row.data,
        }
    }

    /// An event as the log has it. What it is called in the tenant's history is the projector's to say.
    pub fn of_envelope(envelope: &'a Envelope, sessionid: Option<&'a str>, position: Option<u64>) -> Self {
        Self {
            specversion: SPEC_VERSION,
            id: envelope.event_id,
            source: SOURCE,
            event_type: &envelope.event_type,
            subject: envelope.aggregate_id.0,
            time: envelope.occurred_at,
            datacontenttype: CONTENT_TYPE,
            position: position.map(|position| position.to_string()),
            tenantid: envelope.tenant_id.0,
            aggregatesequence: envelope.aggregate_sequence,
            correlationid: envelope.correlation_id,
            causationid: envelope.causation_id,
            actor: &envelope.actor,
            dataversion: envelope.event_version,
            sessionid,
            traceparent: envelope.trace_context.as_ref().map(|trace| trace.traceparent.as_str()),
            data: &envelope.data,
        }
    }
}

#[cfg(test)]
mod tests {
    use toolgate_events::{CallId, Form, TenantId, TraceContext};

    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            event_id: Uuid::from_u128(1),
            event_type: "tool_call_requested".to_owned(),
            event_version: 1,
            tenant_id: TenantId(Uuid::from_u128(3)),
            aggregate_type: "tool_call".to_owned(),
            aggregate_id: CallId(Uuid::from_u128(2)),
            aggregate_sequence: 1,
            correlation_id: Uuid::from_u128(2),
            causation_id: None,
            actor: "alice".to_owned(),
            occurred_at: DateTime::UNIX_EPOCH,
            trace_context: Some(TraceContext { traceparent: "00-a-b-01".to_owned() }),
            data: serde_json::json!({"text": "a"}),
            form: Form::Open,
        }
    }

    fn row() -> AuditRow {
        let Envelope { event_id, event_type, event_version, aggregate_type, aggregate_id, actor, .. } = envelope();
        AuditRow {
            position: 7,
            stream_sequence: 9,
            event_id,
            event_type,
            event_version,
            aggregate_type,
            aggregate_id: aggregate_id.0,
            aggregate_sequence: 1,
            actor,
            occurred_at: DateTime::UNIX_EPOCH,
            correlation_id: Uuid::from_u128(2),
            causation_id: None,
            data: serde_json::json!({"text": "a"}),
            prev_hash: String::new(),
            hash: String::new(),
        }
    }

    #[test]
    fn positions_are_strings_and_absent_attributes_stay_out() {
        let json = serde_json::to_value(CloudEvent::of_row(Uuid::nil(), &row(), None, None)).unwrap();
        assert_eq!(json["position"], "7");
        assert_eq!(json["aggregatesequence"], "1");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000000Z");
        assert!(json.get("causationid").is_none() && json.get("sessionid").is_none());
        let json = serde_json::to_value(CloudEvent::of_envelope(&envelope(), None, None)).unwrap();
        assert!(json.get("position").is_none());
    }

    #[test]
    fn an_event_looks_the_same_from_the_log_and_from_the_trail() {
        let (envelope, row) = (envelope(), row());
        let from_log = CloudEvent::of_envelope(&envelope, Some("s"), Some(7));
        let from_trail = CloudEvent::of_row(Uuid::from_u128(3), &row, Some("s"), Some("00-a-b-01"));
        assert_eq!(serde_json::to_value(from_log).unwrap(), serde_json::to_value(from_trail).unwrap());
    }
}
