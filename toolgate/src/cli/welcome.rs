//! What `up` prints when everything runs: the address, a token, and three calls to paste.

use super::Error;
use crate::{
    dev_issuer::{Claims, DEMO_TENANT, DevIssuer},
    settings::Settings,
};

/// How long the printed token lasts: a working day of trying things out.
const TOKEN_HOURS: i64 = 12;

/// The text. The calls name the address and take the token from the line above them, so that they can be pasted one by one.
pub(super) fn text(url: &str, settings: &Settings, issuer: &DevIssuer) -> Result<String, Error> {
    if settings.jwks_file.is_some() {
        // Another issuer's tokens are accepted here, and only that issuer can mint one.
        return Ok(format!("\ntoolgate is ready on {url}\n"));
    }
    let claims = Claims::lasting(settings, "demo", DEMO_TENANT, &["agent", "auditor"], chrono::Duration::hours(TOKEN_HOURS));
    let token = issuer.mint(&claims)?;
    Ok(format!(
        r#"
toolgate is ready on {url}

A token for the demonstration tenant (roles agent and auditor, {TOKEN_HOURS} hours):

TOKEN={token}

Three calls to try in another terminal, after the line above:

# search the knowledge base
curl -s {url}/v1/tool-calls -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -H "Prefer: wait=10" -d '{{"tool": "knowledge.search", "arguments": {{"query": "power cut"}}}}'

# create a task; paste it twice: the same key is the same call
curl -s {url}/v1/tool-calls -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -H "Prefer: wait=10" -H "Idempotency-Key: first-task" -d '{{"tool": "task.create", "arguments": {{"title": "Read the audit trail"}}}}'

# read the audit trail of both
curl -s "{url}/v1/audit?limit=5" -H "Authorization: Bearer $TOKEN"

Ctrl-C stops everything; the next start finds its data again.
"#
    ))
}
