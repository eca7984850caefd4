use async_nats::jetstream::{
    Context, ErrorCode,
    context::GetStreamErrorKind,
    message::PublishMessage,
    stream::{Config, LastRawMessageErrorKind, StorageType, Stream},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use toolgate_events::TenantId;
use uuid::Uuid;

use super::{KeyError, MasterKeys, Scope};
use crate::{
    append::{Verdict, classify},
    entries::PATIENCE,
};

const STREAM: &str = "KEYS";
const SUBJECTS: &str = "keys.>";
const CHECK: &str = "keys.check";
/// What the check entry says: whoever can read it has the right master key.
const CHECKED: &[u8] = b"toolgate";
const CHECK_PURPOSE: &str = "toolgate/check";

/// The stream beside the log that holds the wrapped keys, one entry for each scope.
#[derive(Clone, Debug)]
pub struct KeyStore {
    context: Context,
    stream: Stream<()>,
}

/// The keys of one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The oldest first; the last one seals.
    #[serde(default)]
    pub keys: Vec<WrappedKey>,
    /// Present when they were destroyed. Nothing follows.
    #[serde(default)]
    pub erased_at: Option<DateTime<Utc>>,
}

/// A key that only a master key can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    pub id: Uuid,
    pub created_at: DateTime<Utc>,
    wrapped: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct CheckEntry {
    wrapped: String,
}

impl WrappedKey {
    pub fn wrap(
        master: &MasterKeys,
        place: (TenantId, &Scope),
        id: Uuid,
        created_at: DateTime<Utc>,
        key: &[u8],
    ) -> Result<Self, KeyError> {
        Ok(Self { id, created_at, wrapped: master.wrap(&purpose(place, id), key)? })
    }

    pub fn unwrap(&self, master: &MasterKeys, place: (TenantId, &Scope)) -> Result<Vec<u8>, KeyError> {
        master.unwrap(&purpose(place, self.id), &self.wrapped)
    }
}

/// Bound to its place, so that nobody can pass one tenant's key off as another's.
fn purpose((tenant, scope): (TenantId, &Scope), id: Uuid) -> String {
    format!("toolgate/key/{tenant}/{scope}/{id}")
}

/// The stream. Unlike the others beside the log it can forget: the operator deletes single messages, and their bytes are overwritten.
pub fn config() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECTS.to_owned()],
        storage: StorageType::File,
        deny_purge: true,
        ..Config::default()
    }
}

impl KeyStore {
    /// `None` when there is no such stream.
    pub async fn find(context: &Context) -> Result<Option<Self>, KeyError> {
        let found = match timeout(PATIENCE, context.get_stream(STREAM)).await.map_err(|_| unanswered())? {
            Ok(_) => context.get_stream_no_info(STREAM).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(stream) => Ok(Some(Self { context: context.clone(), stream })),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(KeyError::Unavailable(error.to_string())),
            },
        }
    }

    /// Whether this master key is the one that the keys are wrapped under; `None` while nothing has been.
    pub async fn check(&self, master: &MasterKeys) -> Result<Option<()>, KeyError> {
        let Some((entry, _)) = self.last::<CheckEntry>(CHECK).await? else { return Ok(None) };
        match master.unwrap(CHECK_PURPOSE, &entry.wrapped)? == CHECKED {
            true => Ok(Some(())),
            false => Err(KeyError::WrongMasterKey(master.first().to_owned())),
        }
    }

    /// Puts down what later starts are checked by.
    pub async fn put_check(&self, master: &MasterKeys) -> Result<(), KeyError> {
        let entry = CheckEntry { wrapped: master.wrap(CHECK_PURPOSE, CHECKED)? };
        let expected = self.last::<CheckEntry>(CHECK).await?.map_or(0, |(_, sequence)| sequence);
        self.put(CHECK, &entry, expected).await.map(drop)
    }

    /// A scope's entry and its place; the place is 0 when there is none.
    pub async fn entry(&self, tenant: TenantId, scope: &Scope) -> Result<(Option<KeyEntry>, u64), KeyError> {
        let found = self.last(&subject(tenant, scope)).await?;
        Ok(found.map_or((None, 0), |(entry, sequence)| (Some(entry), sequence)))
    }

    /// Replaces a scope's entry, unless somebody else has meanwhile: then the answer is false.
    pub async fn put_entry(&self, tenant: TenantId, scope: &Scope, entry: &KeyEntry, expected: u64) -> Result<bool, KeyError> {
        self.put(&subject(tenant, scope), entry, expected).await
    }

    async fn last<E: DeserializeOwned>(&self, subject: &str) -> Result<Option<(E, u64)>, KeyError> {
        match timeout(PATIENCE, self.stream.get_last_raw_message_by_subject(subject)).await.map_err(|_| unanswered())? {
            Ok(message) => {
                let entry = serde_json::from_slice(&message.payload);
                Ok(Some((entry.map_err(|_| KeyError::Broken(format!("the entry {subject} is none")))?, message.sequence)))
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
                LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Err(KeyError::Lost)
                }
                _ => Err(KeyError::Unavailable(error.to_string())),
            },
        }
    }

    async fn put(&self, subject: &str, entry: &impl Serialize, expected: u64) -> Result<bool, KeyError> {
        let payload = Bytes::from(serde_json::to_vec(entry).map_err(|error| KeyError::Broken(error.to_string()))?);
        let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(expected);
        let published = match self.context.send_publish(subject.to_owned(), message).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match published {
            Ok(_) => Ok(true),
            Err(error) if matches!(classify(&error), Verdict::Conflict) => Ok(false),
            Err(error) => Err(KeyError::Unavailable(error.to_string())),
        }
    }
}

fn subject(tenant: TenantId, scope: &Scope) -> String {
    format!("keys.data.{tenant}.{scope}")
}

fn unanswered() -> KeyError {
    KeyError::Unavailable("no answer in time".to_owned())
}
