use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use toolgate_events::{audit::AuditRow, serde_text};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::queries::audit::StreamedRow;

/// An event as CloudEvents 1.0 has it, in JSON format. The extension attributes are lower case without separators, as the
/// specification asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CloudEvent<'a> {
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
    /// Per tenant, gapless.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
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

/// One event, rendered once for all the clients it goes to.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub position: u64,
    /// As the log has it.
    pub event_type: String,
    pub call_id: Uuid,
    pub session_id: Option<String>,
    /// The CloudEvent.
    pub json: String,
}

impl Rendered {
    pub(crate) fn new(tenant: Uuid, row: StreamedRow) -> Result<Self, serde_json::Error> {
        let StreamedRow { audit, session_id, traceparent } = row;
        let json = serde_json::to_string(&cloud_event(tenant, &audit, session_id.as_deref(), traceparent.as_deref()))?;
        Ok(Self { position: audit.position, event_type: audit.event_type, call_id: audit.aggregate_id, session_id, json })
    }

    /// The `event:` field. The log may hold types that this release never wrote; a line break in one would forge a frame.
    pub(crate) fn sse_name(&self) -> String {
        self.event_type.replace(char::is_control, "_")
    }
}

fn cloud_event<'a>(
    tenant: Uuid,
    audit: &'a AuditRow,
    session_id: Option<&'a str>,
    traceparent: Option<&'a str>,
) -> CloudEvent<'a> {
    CloudEvent {
        specversion: "1.0",
        id: audit.event_id,
        source: "/toolgate",
        event_type: &audit.event_type,
        subject: audit.aggregate_id,
        time: audit.occurred_at,
        datacontenttype: "application/json",
        position: audit.position,
        tenantid: tenant,
        aggregatesequence: audit.aggregate_sequence,
        correlationid: audit.correlation_id,
        causationid: audit.causation_id,
        actor: &audit.actor,
        dataversion: audit.event_version,
        sessionid: session_id,
        traceparent,
        data: &audit.data,
    }
}

#[cfg(test)]
pub(super) fn row(position: u64, event_type: &str) -> StreamedRow {
    let audit = AuditRow {
        position,
        stream_sequence: position,
        event_id: Uuid::from_u128(1),
        event_type: event_type.to_owned(),
        event_version: 1,
        aggregate_type: "tool_call".to_owned(),
        aggregate_id: Uuid::from_u128(2),
        aggregate_sequence: 1,
        actor: "alice".to_owned(),
        occurred_at: DateTime::UNIX_EPOCH,
        correlation_id: Uuid::from_u128(2),
        causation_id: None,
        data: serde_json::json!({"text": "a\r\nb"}),
        prev_hash: String::new(),
        hash: String::new(),
    };
    StreamedRow { audit, session_id: None, traceparent: None }
}

#[cfg(test)]
mod tests {
    use toolgate_events::ToolCallEvent;

    use super::*;

    #[test]
    fn a_type_from_the_log_cannot_forge_a_frame() {
        let rendered = Rendered::new(Uuid::nil(), row(1, "a\r\nid: 9\n\ndata: x\0")).unwrap();
        assert_eq!(rendered.sse_name(), "a__id: 9__data: x_");
        assert!(!rendered.json.contains(['\r', '\n']));
    }

    #[test]
    fn positions_are_strings_and_absent_attributes_stay_out() {
        let rendered = Rendered::new(Uuid::nil(), row(7, ToolCallEvent::SUCCEEDED)).unwrap();
        let json: Value = serde_json::from_str(&rendered.json).unwrap();
        assert_eq!(json["position"], "7");
        assert_eq!(json["aggregatesequence"], "1");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000000Z");
        assert!(json.get("causationid").is_none() && json.get("sessionid").is_none());
    }
}
