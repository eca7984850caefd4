pub(super) mod events;
pub(super) mod get;
pub(super) mod list;

use chrono::{DateTime, Utc};
use serde::Serialize;
use toolgate_events::{Session, serde_text};
use utoipa::ToSchema;

/// What the calls of a session come to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionSummary {
    session_id: String,
    /// Who made its calls; of many, the first 20 by name.
    principals: Vec<String>,
    calls: SessionCalls,
    /// Of the calls that succeeded, those answered with an earlier result.
    cached: u64,
    /// Attempts of the calls that have succeeded or failed.
    attempts: u64,
    /// Artifacts that its calls made.
    artifact_count: u64,
    /// Tasks that its calls made.
    task_count: u64,
    /// How long tools ran, in milliseconds.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    duration_ms: u64,
    /// When its first event occurred.
    #[serde(with = "serde_text::timestamp")]
    first_at: DateTime<Utc>,
    /// When its last event occurred.
    #[serde(with = "serde_text::timestamp")]
    last_at: DateTime<Utc>,
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    first_position: u64,
    /// Of its last event: its place in the list.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
    links: SessionLinks,
}

/// Calls by where they stand.
#[derive(Debug, Serialize, ToSchema)]
struct SessionCalls {
    total: u64,
    requested: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
}

/// Paths of the same origin.
#[derive(Debug, Serialize, ToSchema)]
struct SessionLinks {
    #[serde(rename = "self")]
    own: String,
    events: String,
    tool_calls: String,
}

impl SessionSummary {
    fn of(session_id: String, session: &Session) -> Self {
        let Session { first_position, first_at, position, last_at, total, artifacts, tasks, .. } = session;
        let running = u64::try_from(session.running).unwrap_or_default();
        let done = running + total.succeeded + total.failed + total.cancelled;
        Self {
            principals: session.principals.iter().cloned().collect(),
            calls: SessionCalls {
                total: total.calls,
                requested: total.calls.saturating_sub(done),
                running,
                succeeded: total.succeeded,
                failed: total.failed,
                cancelled: total.cancelled,
            },
            cached: total.cached,
            attempts: total.attempts,
            artifact_count: *artifacts,
            task_count: *tasks,
            duration_ms: total.duration_ms,
            first_at: *first_at,
            last_at: *last_at,
            first_position: *first_position,
            position: *position,
            links: SessionLinks::of(&session_id),
            session_id,
        }
    }
}

impl SessionLinks {
    fn of(session_id: &str) -> Self {
        let encoded = percent_encoded(session_id);
        let own = format!("/v1/sessions/{encoded}");
        Self { events: format!("{own}/events"), tool_calls: format!("/v1/tool-calls?session_id={encoded}"), own }
    }
}

/// Good for a segment of a path and for a value of a query: everything but unreserved characters (RFC 3986, section 2.3) is escaped.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_characters_fits_into_a_path() {
        for (id, path) in [
            ("s-1_2.3~", "/v1/sessions/s-1_2.3~"),
            ("a/b c+d", "/v1/sessions/a%2Fb%20c%2Bd"),
            ("%2F?#&=", "/v1/sessions/%252F%3F%23%26%3D"),
            ("größe😀", "/v1/sessions/gr%C3%B6%C3%9Fe%F0%9F%98%80"),
        ] {
            assert_eq!(SessionLinks::of(id).own, path);
        }
    }
}
