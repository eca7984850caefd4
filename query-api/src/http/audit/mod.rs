pub(super) mod export;
pub(super) mod list;
pub(super) mod replay;

use chrono::{DateTime, Utc};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// A row of the audit trail.
// The domain's `AuditRow` knows nothing of OpenAPI.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = AuditRow)]
pub(super) struct AuditRowSchema {
    /// Per tenant, gapless, from 1.
    #[schema(example = "1")]
    position: String,
    #[schema(example = "1")]
    stream_sequence: String,
    event_id: Uuid,
    #[schema(example = "tool_call_requested")]
    event_type: String,
    event_version: u32,
    aggregate_type: String,
    aggregate_id: Uuid,
    #[schema(example = "1")]
    aggregate_sequence: String,
    actor: String,
    occurred_at: DateTime<Utc>,
    correlation_id: Uuid,
    #[schema(required)]
    causation_id: Option<Uuid>,
    data: Value,
    /// SHA-256, lower-case hex.
    prev_hash: String,
    /// SHA-256 over the row without this member, lower-case hex.
    hash: String,
}
