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
    /// The `jti` claim: what the token can be revoked by.
    pub token_id: Option<String>,
    /// The key that signed the token.
    pub key_id: String,
    /// The `iat` claim, in whole seconds.
    pub issued_at: DateTime<Utc>,
    /// The `exp` claim, in whole seconds: streams end here.
    pub expires_at: DateTime<Utc>,
}
