use std::time::Duration;

use serde_json::json;

use super::Error;
use crate::{
    dev_issuer::{Claims, DEMO_TENANT, DevIssuer},
    settings::Settings,
};

/// The demonstration tenant's knowledge base: id, title, language, text.
const DOCUMENTS: [(&str, &str, &str, &str); 4] = [
    ("demo/idempotency", "Why a retry is safe", "en", include_str!("../../demo/idempotency.md")),
    ("demo/durability", "What accepted means", "en", include_str!("../../demo/durability.md")),
    ("demo/audit", "Proving what happened", "en", include_str!("../../demo/audit.md")),
    ("demo/pengembalian", "Pengembalian dana", "id", include_str!("../../demo/pengembalian.md")),
];

/// Loads the knowledge base through the front door, like any caller. The keys stay the same, so that a restart loads nothing twice.
pub async fn load(settings: &Settings, issuer: &DevIssuer) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Demo(error.to_string());
    let claims = Claims::lasting(settings, "demo-loader", DEMO_TENANT, &["agent"], chrono::Duration::minutes(5));
    let token = issuer.mint(&claims)?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().map_err(|error| failed(&error))?;
    for (document_id, title, locale, content) in DOCUMENTS {
        let arguments = json!({"document_id": document_id, "title": title, "locale": locale, "content": content});
        let answer = http
            .post(format!("http://{}/v1/tool-calls", settings.listen))
            .bearer_auth(&token)
            .header("idempotency-key", document_id)
            .header("prefer", "wait=10")
            .json(&json!({"tool": "knowledge.upsert", "arguments": arguments}))
            .send()
            .await
            .map_err(|error| failed(&error))?;
        // Another text under the same key is an older demo of this data directory: it stays.
        if !answer.status().is_success() && answer.status() != reqwest::StatusCode::UNPROCESSABLE_ENTITY {
            return Err(failed(&format_args!("{document_id} was answered with {}", answer.status())));
        }
    }
    Ok(())
}
