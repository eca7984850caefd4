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

use super::{KeyError, MasterKeys, Scope, jwe::KEY_LENGTH};
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
/// What a tombstone says.
const ERASED: &[u8] = b"erased";

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
    pub erased: Option<Tombstone>,
}

/// A key that only a master key can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    pub id: Uuid,
    pub created_at: DateTime<Utc>,
    wrapped: String,
}

/// That keys were destroyed. Who can write to the stream, and has no master key, cannot say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub at: DateTime<Utc>,
    wrapped: String,
}

/// One version of an entry; damage is no entry.
#[derive(Debug)]
pub struct Message {
    pub place: (TenantId, Scope),
    pub entry: Result<KeyEntry, KeyError>,
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
        let key = unwrap(master, place, &purpose(place, self.id), &self.wrapped)?;
        if key.len() == KEY_LENGTH { Ok(key) } else { Err(damaged(&subject(place.0, place.1), "holds a key of another length")) }
    }
}

impl KeyEntry {
    /// The keys are destroyed.
    pub fn tombstone(master: &MasterKeys, place: (TenantId, &Scope), at: DateTime<Utc>) -> Result<Self, KeyError> {
        let wrapped = master.wrap(&tombstones_purpose(place, at), ERASED)?;
        Ok(Self { keys: Vec::new(), erased: Some(Tombstone { at, wrapped }) })
    }

    /// Whether the keys were destroyed.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] when somebody says so who had no master key, and when there is nothing at all.
    pub fn is_erased(&self, master: &MasterKeys, place: (TenantId, &Scope)) -> Result<bool, KeyError> {
        match &self.erased {
            Some(Tombstone { at, wrapped }) => unwrap(master, place, &tombstones_purpose(place, *at), wrapped).map(|_| true),
            None if self.keys.is_empty() => Err(damaged(&subject(place.0, place.1), "holds no key")),
            None => Ok(false),
        }
    }
}

fn unwrap(master: &MasterKeys, (tenant, scope): (TenantId, &Scope), purpose: &str, wrapped: &str) -> Result<Vec<u8>, KeyError> {
    master.unwrap(purpose, wrapped).map_err(|error| match error {
        error @ (KeyError::NoMasterKey | KeyError::UnknownMasterKey(_)) => error,
        _ => damaged(&subject(tenant, scope), "does not open under the master key that it names"),
    })
}

fn damaged(subject: &str, how: &str) -> KeyError {
    KeyError::Damaged(format!("the entry {subject} {how}"))
}

/// Bound to its place, so that nobody can pass one tenant's key off as another's.
fn purpose((tenant, scope): (TenantId, &Scope), id: Uuid) -> String {
    format!("toolgate/key/{tenant}/{scope}/{id}")
}

fn tombstones_purpose((tenant, scope): (TenantId, &Scope), at: DateTime<Utc>) -> String {
    format!("toolgate/erased/{tenant}/{scope}/{}", at.timestamp_micros())
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

    /// A scope's entry.
    pub async fn entry(&self, tenant: TenantId, scope: &Scope) -> Result<Option<KeyEntry>, KeyError> {
        Ok(self.last(&subject(tenant, scope)).await?.map(|(entry, _)| entry))
    }

    /// A scope's entry, or what is wrong with it, and its place; the place is 0 when there is none.
    pub async fn entry_to_change(
        &self,
        tenant: TenantId,
        scope: &Scope,
    ) -> Result<(Option<Result<KeyEntry, KeyError>>, u64), KeyError> {
        let subject = subject(tenant, scope);
        let found = self.raw_last(&subject).await?;
        Ok(found.map_or((None, 0), |(payload, sequence)| (Some(parse(&subject, &payload)), sequence)))
    }

    /// Replaces a scope's entry, unless somebody else has meanwhile: then the answer is false.
    pub async fn put_entry(&self, tenant: TenantId, scope: &Scope, entry: &KeyEntry, expected: u64) -> Result<bool, KeyError> {
        self.put(&subject(tenant, scope), entry, expected).await
    }

    /// Every entry that matches, the older versions included, in the order they were written.
    pub async fn messages(&self, subjects: &str) -> Result<Vec<Message>, KeyError> {
        let mut messages = Vec::new();
        for (_, subject, payload) in self.raw_messages(subjects).await? {
            let place = place(&subject).ok_or_else(|| damaged(&subject, "belongs to nobody"))?;
            messages.push(Message { place, entry: parse(&subject, &payload) });
        }
        Ok(messages)
    }

    /// Overwrites and removes what an entry was before. Only the operator may.
    pub async fn forget_all_but_the_newest(&self, subject: &str) -> Result<(), KeyError> {
        let mut messages = self.raw_messages(subject).await?;
        messages.pop();
        for (sequence, ..) in messages {
            timeout(PATIENCE, self.stream.delete_message(sequence))
                .await
                .map_err(|_| unanswered())?
                .map_err(|error| KeyError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }

    async fn raw_messages(&self, subjects: &str) -> Result<Vec<(u64, String, Bytes)>, KeyError> {
        let mut messages = Vec::new();
        let mut from = 1;
        loop {
            let next = self.stream.get_first_raw_message_by_subject(subjects, from);
            match timeout(PATIENCE, next).await.map_err(|_| unanswered())? {
                Ok(message) => {
                    from = message.sequence + 1;
                    messages.push((message.sequence, message.subject.to_string(), message.payload));
                }
                Err(error) => match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => return Ok(messages),
                    LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                        return Ok(messages);
                    }
                    _ => return Err(KeyError::Unavailable(error.to_string())),
                },
            }
        }
    }

    async fn last<E: DeserializeOwned>(&self, subject: &str) -> Result<Option<(E, u64)>, KeyError> {
        let Some((payload, sequence)) = self.raw_last(subject).await? else { return Ok(None) };
        Ok(Some((parse(subject, &payload)?, sequence)))
    }

    async fn raw_last(&self, subject: &str) -> Result<Option<(Bytes, u64)>, KeyError> {
        match timeout(PATIENCE, self.stream.get_last_raw_message_by_subject(subject)).await.map_err(|_| unanswered())? {
            Ok(message) => Ok(Some((message.payload, message.sequence))),
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

fn parse<E: DeserializeOwned>(subject: &str, payload: &[u8]) -> Result<E, KeyError> {
    serde_json::from_slice(payload).map_err(|_| damaged(subject, "cannot be read"))
}

fn subject(tenant: TenantId, scope: &Scope) -> String {
    format!("keys.data.{tenant}.{scope}")
}

fn place(subject: &str) -> Option<(TenantId, Scope)> {
    let (tenant, scope) = subject.strip_prefix("keys.data.")?.split_once('.')?;
    Some((tenant.parse().ok()?, Scope::of(Some(scope))))
}

fn unanswered() -> KeyError {
    KeyError::Unavailable("no answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_master_key_says_that_keys_are_destroyed() {
        let master = || MasterKeys::parse(&MasterKeys::generate().unwrap()).unwrap();
        let (own, tenant, scope) = (master(), TenantId(Uuid::from_u128(1)), Scope::tenant());
        let place = (tenant, &scope);
        let now = DateTime::from_timestamp_micros(1_900_000_000_123_456).unwrap();
        let erased = KeyEntry::tombstone(&own, place, now).unwrap();
        let written = serde_json::to_vec(&erased).unwrap();
        assert!(parse::<KeyEntry>("s", &written).unwrap().is_erased(&own, place).unwrap());
        assert!(matches!(erased.is_erased(&master(), place), Err(KeyError::UnknownMasterKey(_))));

        let tombstone = || erased.erased.clone().unwrap();
        let later = Tombstone { at: now + chrono::TimeDelta::microseconds(1), ..tombstone() };
        let forged = Tombstone { wrapped: "e30..AA.AA.AA".to_owned(), ..tombstone() };
        let key = WrappedKey::wrap(&own, place, Uuid::nil(), now, &[1; KEY_LENGTH]).unwrap();
        let moved = Tombstone { wrapped: key.wrapped.clone(), ..tombstone() };
        for tombstone in [later, forged, moved] {
            let entry = KeyEntry { keys: vec![key.clone()], erased: Some(tombstone) };
            assert!(matches!(entry.is_erased(&own, place), Err(KeyError::Damaged(_))), "{entry:?}");
        }
        let others = (TenantId(Uuid::from_u128(2)), &scope);
        assert!(matches!(erased.is_erased(&own, others), Err(KeyError::Damaged(_))), "another tenant's");
        assert!(!KeyEntry { keys: vec![key], erased: None }.is_erased(&own, place).unwrap());
        assert!(matches!(KeyEntry::default().is_erased(&own, place), Err(KeyError::Damaged(_))));
    }

    #[test]
    fn a_damaged_entry_is_not_taken_for_damaged_content() {
        let master = MasterKeys::parse(&MasterKeys::generate().unwrap()).unwrap();
        let (tenant, scope) = (TenantId(Uuid::from_u128(1)), Scope::tenant());
        let place = (tenant, &scope);
        let wrap = |bytes: &[u8]| WrappedKey::wrap(&master, place, Uuid::nil(), DateTime::UNIX_EPOCH, bytes).unwrap();
        let whole = wrap(&[1; KEY_LENGTH]);
        assert_eq!(whole.unwrap(&master, place).unwrap(), [1; KEY_LENGTH]);
        for length in [KEY_LENGTH - 1, KEY_LENGTH + 1] {
            assert!(matches!(wrap(&vec![1; length]).unwrap(&master, place), Err(KeyError::Damaged(_))), "{length}");
        }
        let with = |wrapped: &str| WrappedKey { wrapped: wrapped.to_owned(), ..whole.clone() };
        let cut = &whole.wrapped[..whole.wrapped.len() - 1];
        for broken in ["", "x", cut, &whole.wrapped[1..]] {
            assert!(matches!(with(broken).unwrap(&master, place), Err(KeyError::Damaged(_))), "{broken}");
        }
        for payload in ["", "{", "[1]", r#"{"keys": [{}]}"#] {
            assert!(matches!(parse::<KeyEntry>("s", payload.as_bytes()), Err(KeyError::Damaged(_))), "{payload}");
        }
    }
}
