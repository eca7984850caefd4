use chrono::Duration;
use serde_json::{Value, json};
use toolgate::dev_issuer::{Claims, DevIssuer};
use toolgate_events::TenantId;
use toolgate_store::Clock;
use uuid::Uuid;

/// A tenant that no other test knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant(pub Uuid);

impl Tenant {
    pub fn new() -> Self {
        Self(Clock::system().new_id())
    }

    pub fn id(self) -> TenantId {
        TenantId(self.0)
    }
}

/// A token in the making.
#[derive(Clone, Debug)]
pub struct Token(Claims);

impl Token {
    pub fn of(tenant: Tenant, role: &str) -> Self {
        let clock = Clock::system();
        Self(Claims {
            issuer: "toolgate-dev".to_owned(),
            audience: "toolgate".to_owned(),
            subject: "tester".to_owned(),
            tenant: tenant.0,
            roles: vec![role.to_owned()],
            session: None,
            issued_at: clock.now(),
            lifetime: Duration::hours(1),
            id: clock.new_id(),
            overrides: Vec::new(),
        })
    }

    pub fn subject(mut self, subject: &str) -> Self {
        self.0.subject = subject.to_owned();
        self
    }

    /// Sets a claim to another value; `null` removes it.
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.0.overrides.push((name.to_owned(), value));
        self
    }

    /// Ends `seconds` from now; in the past when negative.
    pub fn expires_in(self, seconds: i64) -> Self {
        let end = Clock::system().now().timestamp() + seconds;
        self.claim("exp", json!(end))
    }

    pub fn sign(&self, issuer: &DevIssuer) -> String {
        issuer.mint(&self.0).unwrap()
    }
}
