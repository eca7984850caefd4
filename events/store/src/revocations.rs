use async_nats::jetstream::{self, stream::Config};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toolgate_events::{TenantId, canonical};

use crate::{
    EntryError, Log, LogError, Login,
    connect::connect,
    entries::{Entries, PATIENCE},
};

const STREAM: &str = "ACCESS";
const SUBJECTS: &str = "access.>";
const TOKEN: &str = "access.token.";
const TENANT: &str = "access.tenant.";

/// What operators have revoked: a stream beside the log with one message for each token and each tenant, the newest.
#[derive(Clone, Debug)]
pub struct RevocationLog(Entries);

/// One entry, as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    Token {
        /// The SHA-256 of its `jti`.
        digest: [u8; 32],
        expires_at: Option<DateTime<Utc>>,
    },
    Tenant(TenantId, TenantEntry),
}

/// What is decided about a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantEntry {
    #[serde(default)]
    pub is_suspended: bool,
    /// Tokens issued at this time or earlier count no longer.
    #[serde(default)]
    pub tokens_revoked_at: Option<DateTime<Utc>>,
    /// Its content is gone for good, so it stays suspended.
    #[serde(default)]
    pub is_erased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TokenEntry {
    expires_at: Option<DateTime<Utc>>,
}

/// Why revocations could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    #[error(transparent)]
    Connect(#[from] LogError),
    #[error("the revocations: {0}")]
    Entry(#[from] EntryError),
}

impl RevocationLog {
    /// On the connection of a log.
    pub fn of(log: &Log) -> Self {
        Self(Entries::new(log.context.clone(), STREAM, SUBJECTS))
    }

    /// On a connection of its own, without the log.
    ///
    /// # Errors
    /// [`RevocationError::Connect`]
    pub async fn connect(login: Login<'_>) -> Result<Self, RevocationError> {
        let client = connect(login).await?;
        let context = jetstream::context::ContextBuilder::new().timeout(PATIENCE).build(client);
        Ok(Self(Entries::new(context, STREAM, SUBJECTS)))
    }

    /// Revokes the token with this `jti`. `expires_at` is its `exp`, when that is known for certain. Revoking it twice keeps the later
    /// end, and none is later than any.
    ///
    /// # Errors
    /// [`RevocationError`]; the token may then be revoked or not, and the same again is safe.
    pub async fn revoke_token(&self, digest: [u8; 32], expires_at: Option<DateTime<Utc>>) -> Result<(), RevocationError> {
        let subject = format!("{TOKEN}{}", canonical::hex(&digest));
        self.update(&subject, |entry: Option<TokenEntry>| match entry {
            None => TokenEntry { expires_at },
            Some(before) => TokenEntry { expires_at: before.expires_at.zip(expires_at).map(|(before, now)| before.max(now)) },
        })
        .await
    }

    /// Changes what is decided about a tenant.
    ///
    /// # Errors
    /// [`RevocationError`]; the change may then be made or not, and the same again is safe.
    pub async fn change_tenant(&self, tenant: TenantId, change: impl Fn(&mut TenantEntry)) -> Result<(), RevocationError> {
        self.update(&format!("{TENANT}{tenant}"), |entry| {
            let mut entry = entry.unwrap_or_default();
            change(&mut entry);
            entry
        })
        .await
    }

    /// Everything that has changed after a stream sequence, and the sequence it is read up to. An answer with the same sequence means
    /// that nothing has. When the stream was made anew, reading begins at its beginning.
    ///
    /// # Errors
    /// [`RevocationError`]; nothing is known then.
    pub async fn read_after(&self, sequence: u64) -> Result<(Vec<Revocation>, u64), RevocationError> {
        let (entries, sequence) = self.0.read_after(sequence).await?;
        let mut revocations = Vec::with_capacity(entries.len());
        for (subject, payload) in entries {
            revocations.extend(decode(&subject, &payload)?);
        }
        Ok((revocations, sequence))
    }

    async fn update<E>(&self, subject: &str, next: impl Fn(Option<E>) -> E) -> Result<(), RevocationError>
    where
        E: Serialize + DeserializeOwned,
    {
        Ok(self.0.update(subject, |before| Some(next(before))).await?)
    }
}

/// The stream that holds the entries.
pub(crate) fn config() -> Config {
    Entries::config(STREAM, SUBJECTS)
}

/// Nothing for a subject that a later release may have added.
fn decode(subject: &str, payload: &[u8]) -> Result<Option<Revocation>, EntryError> {
    if let Some(digest) = subject.strip_prefix(TOKEN).and_then(digest) {
        let entry: TokenEntry = serde_json::from_slice(payload)?;
        return Ok(Some(Revocation::Token { digest, expires_at: entry.expires_at }));
    }
    let tenant = subject.strip_prefix(TENANT).and_then(|tenant| tenant.parse().ok());
    tenant.map(|tenant| Ok(Revocation::Tenant(tenant, serde_json::from_slice(payload)?))).transpose()
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_subject() {
        let token = decode(&format!("{TOKEN}{}", canonical::hex(&[0xa5; 32])), br#"{"expires_at": null}"#).unwrap();
        assert_eq!(token, Some(Revocation::Token { digest: [0xa5; 32], expires_at: None }));
        let id = TenantId(uuid::Uuid::from_u128(7));
        let tenant = decode(&format!("{TENANT}{id}"), br#"{"is_suspended": true}"#).unwrap();
        assert_eq!(tenant, Some(Revocation::Tenant(id, TenantEntry { is_suspended: true, ..TenantEntry::default() })));
        for stranger in ["access.other.x", "access.token.zz", "access.token.a5", "access.tenant.x"] {
            assert_eq!(decode(stranger, b"{}").unwrap(), None, "{stranger}");
        }
        assert!(decode(&format!("{TENANT}{id}"), b"x").is_err());
    }
}
