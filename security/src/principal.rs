use chrono::{DateTime, Utc};
use toolgate_events::TenantId;

/// Who is asking, as a verified token says. There is no other way to make one outside of tests.
#[derive(Clone, Debug)]
pub struct Principal {
    pub tenant_id: TenantId,
    /// The `sub` claim.
    pub subject: String,
    pub roles: Vec<String>,
    /// Granted by the token itself, on top of what the roles grant.
    pub permissions: Vec<String>,
    pub session_id: Option<String>,
    /// The `exp` claim: streams end here.
    pub expires_at: DateTime<Utc>,
}
