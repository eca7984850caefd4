use std::{collections::BTreeMap, fmt};

use toolgate_events::TenantId;

use super::{
    KeyError, KeyStore, MasterKeys, Scope,
    jwe::{self, KEY_LENGTH},
    store::{KeyEntry, Message, WrappedKey},
};
use crate::{Clock, crash};

/// Somebody else may change the same entry at the same time; not this often.
const ATTEMPTS: usize = 10;

/// What an operator does with keys.
#[derive(Debug)]
pub struct Custody {
    store: KeyStore,
    master: MasterKeys,
    clock: Clock,
}

/// The keys of one scope, as an operator is shown them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub tenant: TenantId,
    pub scope: Scope,
    pub entry: KeyEntry,
}

impl Custody {
    pub(super) fn new(store: KeyStore, master: MasterKeys) -> Self {
        Self { store, master, clock: Clock::system() }
    }

    /// Every scope that has keys, or had.
    ///
    /// # Errors
    /// [`KeyError`]
    pub async fn list(&self) -> Result<Vec<Held>, KeyError> {
        let mut newest = BTreeMap::new();
        for Message { place: (tenant, scope), entry, .. } in self.store.messages("keys.data.>").await? {
            newest.insert((tenant, scope.to_string()), Held { tenant, scope, entry });
        }
        Ok(newest.into_values().collect())
    }

    /// Gives a scope a new key, which seals from now on. The ones before it still open.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::Erased`] when its keys were destroyed.
    pub async fn rotate(&self, tenant: TenantId, scope: &Scope) -> Result<(), KeyError> {
        let key: [u8; KEY_LENGTH] = jwe::random()?;
        let new = WrappedKey::wrap(&self.master, (tenant, scope), self.clock.new_id(), self.clock.now(), &key)?;
        self.change(tenant, scope, |mut entry| {
            if entry.erased_at.is_some() {
                return Err(KeyError::Erased);
            }
            entry.keys.push(new.clone());
            Ok(Some(entry))
        })
        .await
    }

    /// Wraps every key under the first master key, and removes what was wrapped under another: that one is needed no more. Answers with
    /// the number of scopes.
    ///
    /// # Errors
    /// [`KeyError`]; the same again goes on.
    pub async fn rewrap(&self) -> Result<usize, KeyError> {
        let held = self.list().await?;
        for Held { tenant, scope, .. } in &held {
            self.change(*tenant, scope, |mut entry| {
                for key in &mut entry.keys {
                    let bytes = key.unwrap(&self.master, (*tenant, scope))?;
                    *key = WrappedKey::wrap(&self.master, (*tenant, scope), key.id, key.created_at, &bytes)?;
                }
                Ok(entry.erased_at.is_none().then_some(entry))
            })
            .await?;
        }
        self.store.put_check(&self.master).await?;
        self.store.forget_all_but_the_newest("keys.check").await?;
        Ok(held.len())
    }

    /// Destroys the keys of a data subject, or those of a tenant and all its data subjects. Whatever was sealed with them is gone.
    ///
    /// # Errors
    /// [`KeyError`]; the same again goes on.
    pub async fn destroy(&self, tenant: TenantId, scope: &Scope) -> Result<(), KeyError> {
        // The tenant's own first: no data subject gets a key without it.
        self.destroy_one(tenant, scope).await?;
        if *scope != Scope::tenant() {
            return Ok(());
        }
        for Message { place: (tenant, scope), .. } in self.store.messages(&format!("keys.data.{tenant}.*")).await? {
            self.destroy_one(tenant, &scope).await?;
        }
        Ok(())
    }

    async fn destroy_one(&self, tenant: TenantId, scope: &Scope) -> Result<(), KeyError> {
        let now = self.clock.now();
        self.change(tenant, scope, |entry| {
            let tombstone = KeyEntry { keys: Vec::new(), erased_at: Some(now) };
            Ok(entry.erased_at.is_none().then_some(tombstone))
        })
        .await
    }

    /// Replaces an entry, unless there is nothing to replace it by, and removes what it was before. The new one is there before the
    /// old one is gone.
    async fn change(
        &self,
        tenant: TenantId,
        scope: &Scope,
        next: impl Fn(KeyEntry) -> Result<Option<KeyEntry>, KeyError>,
    ) -> Result<(), KeyError> {
        for _ in 0..ATTEMPTS {
            let (entry, expected) = self.store.entry(tenant, scope).await?;
            let is_done = match next(entry.unwrap_or_default())? {
                Some(next) => self.store.put_entry(tenant, scope, &next, expected).await?,
                None => true,
            };
            if is_done {
                crash::point("keys.replaced");
                return self.store.forget_all_but_the_newest(&format!("keys.data.{tenant}.{scope}")).await;
            }
        }
        Err(KeyError::Unavailable("somebody else changes the same keys all the time".to_owned()))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, scope, entry } = self;
        write!(f, "{tenant}  {scope:<32}  ")?;
        match (entry.erased_at, entry.keys.last()) {
            (Some(at), _) => write!(f, "erased at {at}"),
            (None, Some(newest)) => write!(f, "{} keys, the newest {} of {}", entry.keys.len(), newest.id, newest.created_at),
            (None, None) => f.write_str("no keys"),
        }
    }
}
