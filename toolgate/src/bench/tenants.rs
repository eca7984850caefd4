//! Who calls, and what for: the tenants, their tokens and documents, and the bodies of the calls.

use std::sync::Arc;

use bytes::Bytes;
use chrono::Duration;
use hyper::{StatusCode, header::HeaderValue};
use serde_json::json;
use toolgate_store::Clock;
use uuid::Uuid;

use super::{
    Error,
    http::{Connection, Kind, Outgoing},
};
use crate::dev_issuer::{Claims, DevIssuer};

/// What the audience and the issuer are unless a deployment chooses others.
pub const ISSUER: &str = "toolgate-dev";
pub const AUDIENCE: &str = "toolgate";

/// Topics of the documents that every tenant has.
const TOPICS: [&str; 4] = ["refunds", "invoices", "shipping", "warranty"];

/// One tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub authorization: HeaderValue,
    /// Keeps the keys of one run of the bench apart from those of another.
    pub salt: String,
}

impl Tenant {
    pub fn with_token(token: &str, clock: Clock) -> Result<Self, Error> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::Token)?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, salt: clock.new_id().to_string() })
    }
}

/// A tenant's id: always the same, and with it the tenant's partition.
pub fn id(number: usize) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("toolgate bench {number}").as_bytes())
}

/// The ids of the first `count` tenants.
pub fn ids(count: usize) -> Vec<Uuid> {
    (0..count).map(id).collect()
}

/// `count` tenants with a token each.
pub fn mint(issuer: &DevIssuer, count: u16, clock: Clock) -> Result<Arc<[Tenant]>, Error> {
    let tenant = |number: u16| {
        let token = issuer.mint(&Claims {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            subject: "bench".to_owned(),
            tenant: id(usize::from(number)),
            roles: vec!["admin".to_owned()],
            session: None,
            issued_at: clock.now(),
            lifetime: Duration::days(1),
            id: clock.new_id(),
            overrides: Vec::new(),
        })?;
        Tenant::with_token(&token, clock)
    };
    (0..count).map(tenant).collect()
}

impl Kind {
    /// A body of about 300 bytes.
    pub fn body(self) -> Bytes {
        let body = match self {
            Self::Intake => json!({
                "tool": "task.create",
                "arguments": {
                    "title": "Call the customer back about invoice 2026-0417",
                    "description": "The amount was charged twice on the third of the month; finance has confirmed it by letter.",
                    "assignee": "support-second-level",
                    "labels": ["billing", "callback"],
                },
                "session_id": "bench-0197b2a4-6f0e",
            }),
            // A read of one row: the whole road with as little tool in it as a real tool can have.
            Self::Synchronous => json!({
                "tool": "knowledge.get",
                "arguments": {"document_id": format!("bench/{}", TOPICS[0])},
                "session_id": format!("bench-{}", "0197b2a4-6f0e-7c11-9a54-1f2e3d4c5b6a/".repeat(3)),
                "options": {"locale": "en", "timeout_ms": 10_000, "freshness_seconds": 0},
            }),
            Self::Cached => json!({
                "tool": "knowledge.search",
                "arguments": {"query": format!("{} letter", TOPICS[0])},
                "options": {"locale": "en", "freshness_seconds": 3_600},
            }),
        };
        body.to_string().into()
    }
}

/// Loads every tenant's documents through the front door. Twice is once: the keys stay the same.
pub async fn load_documents(address: &str, tenants: &[Tenant]) -> Result<(), Error> {
    let mut connection = Connection::open(address).await.map_err(Error::Http)?;
    for tenant in tenants {
        for topic in TOPICS {
            let key = format!("bench-{topic}");
            let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str()), ("prefer", "wait=30")];
            let body = document(topic).into();
            let request = Outgoing::post("/v1/tool-calls", tenant, &headers, body);
            let (status, body) = connection.ask(request).await.map_err(Error::Http)?;
            if status != StatusCode::OK {
                return Err(Error::Answer { status, body: String::from_utf8_lossy(&body).into_owned() });
            }
        }
    }
    Ok(())
}

fn document(topic: &str) -> String {
    let content = format!(
        "This page of the handbook is about {topic}. A customer writes a letter or calls; the first answer goes out within \
         fourteen days, and earlier where the law asks for it. What was agreed is written down with the date and the name of \
         whoever agreed to it. Questions about {topic} that this page leaves open go to the second level, never back to the \
         customer. Amounts above the limit need a second signature."
    );
    json!({
        "tool": "knowledge.upsert",
        "arguments": {
            "document_id": format!("bench/{topic}"),
            "title": format!("Handbook: {topic}"),
            "locale": "en",
            "content": content,
            "metadata": {"collection": "support-handbook", "edition": "2026-04", "topic": topic},
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_about_300_bytes() {
        for kind in [Kind::Intake, Kind::Synchronous] {
            let length = kind.body().len();
            assert!((260..=340).contains(&length), "{kind:?}: {length}");
        }
    }
}
