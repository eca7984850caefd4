//! The keys that content is sealed with, and the only place where it is sealed and opened.
//!
//! Each tenant, and each data subject of a tenant, has data keys in a stream beside the log, wrapped under a master key that is in no
//! stream. Destroying the entry makes unreadable whatever was sealed with its keys, wherever copies of that are.

mod custody;
mod jwe;
mod master;
mod ring;
mod store;

use std::fmt;

use toolgate_events::TenantId;

pub use custody::{Custody, Held};
pub(crate) use jwe::random;
pub use master::MasterKeys;
pub use ring::{FRESH, Keyring};
pub use store::{KeyEntry, Tombstone, WrappedKey};
pub(crate) use store::{KeyStore, config};

/// Whose keys: the tenant's own, or those of one of its data subjects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(String);

/// Why something could not be sealed or opened. None of these means that content is gone: that is no error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no master key")]
    NoMasterKey,
    #[error("the master key file does not hold the key {0:?} that the key store is wrapped under")]
    UnknownMasterKey(String),
    #[error("the master key file holds another key under the name {0:?} than the key store is wrapped under")]
    WrongMasterKey(String),
    #[error(
        "the key store is lost: the log was sealed, and there are no keys beside it; bring the stream KEYS back from its backup"
    )]
    Lost,
    #[error("the key store did not answer: {0}")]
    Unavailable(String),
    #[error("the key {kid} of the tenant {tenant} is missing, and nobody erased it; bring it back from the key store's backup")]
    Missing { tenant: TenantId, kid: String },
    /// Says nothing about what was sealed, and it may be brought back.
    #[error("the key store is damaged: {0}; bring that back from the key store's backup")]
    Damaged(String),
    /// Nothing is sealed for it any more.
    #[error("the keys were destroyed by an erasure")]
    Erased,
    /// What was sealed is not what anybody sealed. No key can help that.
    #[error("{0}")]
    Broken(String),
}

impl KeyError {
    /// Whether nothing can be sealed or opened, and not only what is of one scope.
    pub fn is_of_all(&self) -> bool {
        matches!(self, Self::NoMasterKey | Self::Lost | Self::Unavailable(_))
    }
}

impl Scope {
    /// The tenant's own keys.
    pub fn tenant() -> Self {
        Self("tenant".to_owned())
    }

    /// Those of a data subject, by its pseudonym; the tenant's when there is none, or it is no pseudonym.
    pub fn of(data_subject: Option<&str>) -> Self {
        let is_pseudonym =
            |text: &&str| text.len() == PSEUDONYM_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        data_subject.filter(is_pseudonym).map_or_else(Self::tenant, |pseudonym| Self(pseudonym.to_owned()))
    }

    /// The data subject's pseudonym.
    pub fn data_subject(&self) -> Option<&str> {
        (*self != Self::tenant()).then_some(&self.0)
    }
}

/// Hexadecimal digits of a pseudonym.
const PSEUDONYM_LENGTH: usize = 32;

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
