use chrono::{DateTime, SubsecRound, Utc};
use toolgate_events::{Stamp, TraceContext};
use uuid::Uuid;

/// Time and identity for new events, passed to whoever decides: domain code has neither.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: fn() -> DateTime<Utc>,
    new_id: fn() -> Uuid,
}

impl Clock {
    /// The machine's clock, and UUIDv7 (RFC 9562).
    #[expect(clippy::disallowed_methods, reason = "the one place where a clock is made")]
    pub fn system() -> Self {
        Self { now: Utc::now, new_id: Uuid::now_v7 }
    }

    /// Now, in microseconds: what PostgreSQL keeps.
    pub fn now(&self) -> DateTime<Utc> {
        (self.now)().trunc_subsecs(6)
    }

    pub fn new_id(&self) -> Uuid {
        (self.new_id)()
    }

    /// The stamp of an event that happens now.
    pub fn stamp(&self, actor: impl Into<String>, causation_id: Option<Uuid>, trace_context: Option<TraceContext>) -> Stamp {
        Stamp { event_id: self.new_id(), occurred_at: self.now(), actor: actor.into(), causation_id, trace_context }
    }
}
