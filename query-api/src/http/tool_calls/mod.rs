pub(super) mod events;
pub(super) mod get;
pub(super) mod list;

use chrono::{DateTime, Utc};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// [`CallView`](toolgate_events::CallView), which knows nothing of OpenAPI, described.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = ToolCall)]
pub(super) struct ToolCallSchema {
    call_id: Uuid,
    #[schema(example = "knowledge.search")]
    tool: String,
    status: StatusSchema,
    #[schema(required)]
    session_id: Option<String>,
    /// What the tool answered, once it has succeeded.
    #[schema(nullable = false)]
    result: Option<Value>,
    /// Why it failed, once it has.
    #[schema(nullable = false)]
    error: Option<CallErrorSchema>,
    /// Whether the result was made for an earlier call; absent while there is none.
    #[schema(nullable = false)]
    cached: Option<bool>,
    /// Whether it is older than the caller accepts, because the other side is down; absent when it is not.
    #[schema(nullable = false)]
    stale: Option<bool>,
    attempts: u32,
    requested_at: DateTime<Utc>,
    #[schema(nullable = false)]
    finished_at: Option<DateTime<Utc>>,
    /// The tenant's position of the call's newest event; absent until it is projected.
    #[schema(nullable = false, example = "42")]
    position: Option<String>,
    links: LinksSchema,
}

#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = ToolCallStatus, rename_all = "snake_case")]
enum StatusSchema {
    Requested,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// A problem (RFC 9457) as it is recorded with a failed call.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = ToolCallError)]
struct CallErrorSchema {
    r#type: String,
    title: String,
    detail: String,
}

/// Paths of the same origin.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = ToolCallLinks)]
struct LinksSchema {
    #[schema(rename = "self")]
    own: String,
    events: String,
    cancel: String,
}
