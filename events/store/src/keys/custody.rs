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
#[derive(Clone, Debug)]
pub struct Held {
    pub tenant: TenantId,
    pub scope: Scope,
    /// Nothing when it cannot be read.
    pub entry: KeyEntry,
    pub damage: Option<KeyError>,
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
            let damage = entry.as_ref().map_or_else(|error| Some(error.clone()), |entry| self.damage(entry, (tenant, &scope)));
            newest.insert((tenant, scope.to_string()), Held { tenant, scope, entry: entry.unwrap_or_default(), damage });
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
        self.change(tenant, scope, |entry| {
            let mut entry = entry.transpose()?;
            if let Some(entry) = &entry
                && entry.is_erased(&self.master, (tenant, scope))?
            {
                return Err(KeyError::Erased);
            }
            let mut entry = entry.take().unwrap_or_default();
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
            let place = (*tenant, scope);
            self.change(*tenant, scope, |entry| {
                let Some(mut entry) = entry.transpose()? else { return Ok(None) };
                entry.is_erased(&self.master, place)?;
                for key in &mut entry.keys {
                    let bytes = key.unwrap(&self.master, place)?;
                    *key = WrappedKey::wrap(&self.master, place, key.id, key.created_at, &bytes)?;
                }
                match &entry.erased {
                    Some(tombstone) => KeyEntry::tombstone(&self.master, place, tombstone.at).map(Some),
                    None => Ok(Some(entry)),
                }
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
        let tombstone = KeyEntry::tombstone(&self.master, (tenant, scope), self.clock.now())?;
        self.change(tenant, scope, |entry| {
            // What is damaged is destroyed like anything else.
            let is_erased = |entry: KeyEntry| entry.is_erased(&self.master, (tenant, scope)).is_ok_and(|is_erased| is_erased);
            Ok((!entry.and_then(Result::ok).is_some_and(is_erased)).then(|| tombstone.clone()))
        })
        .await
    }

    /// What is wrong with an entry.
    fn damage(&self, entry: &KeyEntry, place: (TenantId, &Scope)) -> Option<KeyError> {
        let keys = entry.keys.iter().map(|key| key.unwrap(&self.master, place).err());
        keys.chain([entry.is_erased(&self.master, place).err()]).flatten().next()
    }

    /// Replaces an entry, unless there is nothing to replace it by, and removes what it was before. The new one is there before the
    /// old one is gone.
    async fn change(
        &self,
        tenant: TenantId,
        scope: &Scope,
        next: impl Fn(Option<Result<KeyEntry, KeyError>>) -> Result<Option<KeyEntry>, KeyError>,
    ) -> Result<(), KeyError> {
        for _ in 0..ATTEMPTS {
            let (entry, expected) = self.store.entry_to_change(tenant, scope).await?;
            let is_done = match next(entry)? {
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
        let Self { tenant, scope, entry, damage } = self;
        write!(f, "{tenant}  {scope:<32}  ")?;
        if let Some(damage) = damage {
            return write!(f, "{damage}");
        }
        match (&entry.erased, entry.keys.last()) {
            (Some(tombstone), _) => write!(f, "erased at {}", tombstone.at),
            (None, Some(newest)) => write!(f, "{} keys, the newest {} of {}", entry.keys.len(), newest.id, newest.created_at),
            (None, None) => f.write_str("no keys"),
        }
    }
}
