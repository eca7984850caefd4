use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    self, Context,
    message::PublishMessage,
    stream::{Config, LastRawMessageErrorKind, StorageType},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use toolgate_events::{TenantId, canonical};

use crate::{
    Log, LogError, Login,
    append::{Verdict, classify},
    connect::connect,
};

const STREAM: &str = "ACCESS";
const SUBJECTS: &str = "access.>";
const TOKEN: &str = "access.token.";
const TENANT: &str = "access.tenant.";
/// How long the broker may take with one answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Entries asked for at once.
const READ_AT_ONCE: u64 = 64;
/// Somebody else may change the same entry at the same time; not this often.
const ATTEMPTS: usize = 10;

/// What operators have revoked: a stream beside the log with one message for each token and each tenant, the newest.
#[derive(Clone, Debug)]
pub struct RevocationLog {
    context: Context,
}

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
    #[error("the revocations cannot be used: {0}")]
    Broker(#[from] async_nats::Error),
    #[error("NATS did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("an entry cannot be written or read: {0}")]
    Entry(#[from] serde_json::Error),
    #[error("somebody else changes the same entry all the time")]
    Contended,
}

impl RevocationLog {
    /// On the connection of a log.
    pub fn of(log: &Log) -> Self {
        Self { context: log.context.clone() }
    }

    /// On a connection of its own, without the log.
    ///
    /// # Errors
    /// [`RevocationError::Connect`]
    pub async fn connect(login: Login<'_>) -> Result<Self, RevocationError> {
        let client = connect(login).await?;
        Ok(Self { context: jetstream::context::ContextBuilder::new().timeout(PATIENCE).build(client) })
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
        let stream = timeout(PATIENCE, self.stream()).await??;
        let last = stream.cached_info().state.last_sequence;
        let mut read = if last < sequence { 0 } else { sequence };
        let mut revocations = HashMap::new();
        while read < last {
            // Each asks for the first entry at its place or after it. Where entries were replaced, several get the same one.
            let places = read + 1..=last.min(read + READ_AT_ONCE);
            let entries = stream::iter(places).map(|place| stream.get_first_raw_message_by_subject(SUBJECTS, place));
            let entries: Vec<_> =
                timeout(PATIENCE, entries.buffered(READ_AT_ONCE as usize).try_collect()).await?.map_err(broker)?;
            for entry in entries {
                read = read.max(entry.sequence);
                if let Some(revocation) = decode(&entry.subject, &entry.payload)? {
                    revocations.insert(entry.subject.to_string(), revocation);
                }
            }
        }
        Ok((revocations.into_values().collect(), read))
    }

    async fn update<E>(&self, subject: &str, next: impl Fn(Option<E>) -> E) -> Result<(), RevocationError>
    where
        E: Serialize + DeserializeOwned,
    {
        let stream = self.stream().await?;
        for _ in 0..ATTEMPTS {
            let (before, expected) = match stream.get_last_raw_message_by_subject(subject).await {
                Ok(message) => (Some(serde_json::from_slice(&message.payload)?), message.sequence),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => (None, 0),
                Err(error) => return Err(broker(error)),
            };
            let payload = Bytes::from(serde_json::to_vec(&next(before))?);
            let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(expected);
            let published = match self.context.send_publish(subject.to_owned(), message).await {
                Ok(acknowledgement) => acknowledgement.await,
                Err(error) => Err(error),
            };
            match published {
                Ok(_) => return Ok(()),
                Err(error) if matches!(classify(&error), Verdict::Conflict) => {}
                Err(error) => return Err(broker(error)),
            }
        }
        Err(RevocationError::Contended)
    }

    /// The stream, made on first use, with its state as of now.
    async fn stream(&self) -> Result<jetstream::stream::Stream, RevocationError> {
        self.context.get_or_create_stream(config()).await.map_err(broker)
    }
}

/// The stream that holds the entries.
pub(crate) fn config() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECTS.to_owned()],
        storage: StorageType::File,
        max_messages_per_subject: 1,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// Nothing for a subject that a later release may have added.
fn decode(subject: &str, payload: &[u8]) -> Result<Option<Revocation>, RevocationError> {
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

fn broker(error: impl Into<async_nats::Error>) -> RevocationError {
    RevocationError::Broker(error.into())
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
        assert_eq!(tenant, Some(Revocation::Tenant(id, TenantEntry { is_suspended: true, tokens_revoked_at: None })));
        for stranger in ["access.other.x", "access.token.zz", "access.token.a5", "access.tenant.x"] {
            assert_eq!(decode(stranger, b"{}").unwrap(), None, "{stranger}");
        }
        assert!(decode(&format!("{TENANT}{id}"), b"x").is_err());
    }
}
