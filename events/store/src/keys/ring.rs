use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{aead::LessSafeKey, hmac};
use serde_json::Value;
use tokio::time::Instant;
use toolgate_events::{
    CallId, Envelope, TenantId,
    audit::AuditRow,
    canonical,
    sealing::{self, Member, Opened, Sealed},
};
use uuid::Uuid;

use super::{
    Custody, KeyError, KeyStore, MasterKeys, PSEUDONYM_LENGTH, Scope,
    jwe::{self, KEY_LENGTH, Place},
    store::{KeyEntry, WrappedKey},
};
use crate::Clock;

/// How long keys count without another look: so long a destroyed one may still be used.
pub const FRESH: Duration = Duration::from_secs(5);
/// Before that, whoever needs them has them looked for again without waiting.
const STALE: Duration = Duration::from_secs(3);
/// Scopes whose keys are remembered.
const MAX_SCOPES: usize = 50_000;
/// Somebody else may make the first key at the same time; not this often.
const ATTEMPTS: usize = 10;
const FINGERPRINT: &[u8] = b"toolgate/fingerprint/v1";
const DATA_SUBJECT: &[u8] = b"toolgate/data-subject/v1";
const ARTIFACTS: &[u8] = b"toolgate/artifacts/v1";

/// Seals and opens, with keys that it remembers for a moment. Clones share everything.
#[derive(Clone)]
pub struct Keyring(Option<Arc<Ring>>);

struct Ring {
    store: KeyStore,
    master: MasterKeys,
    clock: Clock,
    slots: Mutex<HashMap<(TenantId, Scope), Arc<Slot>>>,
}

/// What is known of one scope. Of several who want to know one asks.
#[derive(Default)]
struct Slot {
    known: Mutex<Option<(Instant, Arc<Known>)>>,
    asking: tokio::sync::Mutex<()>,
}

enum Known {
    Absent,
    Erased,
    Keys(Box<Keys>),
}

struct Keys {
    /// The oldest first.
    keys: Vec<DataKey>,
    /// From the first key, so that they stay the same when others follow.
    fingerprint: hmac::Key,
    data_subject: hmac::Key,
}

struct DataKey {
    name: String,
    key: LessSafeKey,
    artifacts: hmac::Key,
}

/// A key for the artifacts of a scope.
pub(crate) struct ArtifactKey {
    known: Arc<Known>,
    name: String,
}

impl Keyring {
    /// One that can neither seal nor open.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(store: KeyStore, master: MasterKeys) -> Self {
        Self(Some(Arc::new(Ring { store, master, clock: Clock::system(), slots: Mutex::default() })))
    }

    /// The event as it is recorded.
    ///
    /// # Errors
    /// [`KeyError`]. Content that comes after the erasure of its keys is left out, which is no error.
    pub async fn seal(&self, envelope: &Envelope) -> Result<Envelope, KeyError> {
        if envelope.sealed_members().is_empty() || envelope.form == toolgate_events::Form::Recorded {
            return envelope.sealed_by(|_, value| Ok(value.clone()));
        }
        let scope = Scope::of(envelope.data_subject());
        let known = self.ring()?.keys_to_seal(envelope.tenant_id, &scope).await?;
        envelope.sealed_by(|member, value| {
            let Known::Keys(keys) = &*known else { return Ok(Sealed::Erased.to_value()) };
            let place = Place::Member { call: envelope.aggregate_id, event: Some(envelope.event_id), member };
            let newest = keys.newest()?;
            let jwe = jwe::seal(&newest.key, &newest.name, &place, canonical::to_string(value).as_bytes())?;
            Ok(Sealed::Jwe(&jwe).to_value())
        })
    }

    /// The event as it was said.
    ///
    /// # Errors
    /// [`KeyError`]. Content whose key was destroyed is gone, which is no error.
    pub async fn open(&self, mut envelope: Envelope) -> Result<Envelope, KeyError> {
        let (tenant, call, event) = (envelope.tenant_id, envelope.aggregate_id, Some(envelope.event_id));
        if envelope.form == toolgate_events::Form::Recorded {
            let members = envelope.sealed_members();
            self.open_members(tenant, call, event, members, &mut envelope.data).await?;
        }
        // What was opened looks like nothing sealed, unless a caller said something that does.
        envelope.form = toolgate_events::Form::Open;
        Ok(envelope)
    }

    /// Opens the data of a row of the audit trail.
    ///
    /// # Errors
    /// [`KeyError`]; the row is then as it was recorded.
    pub async fn open_row(&self, tenant: TenantId, row: &mut AuditRow) -> Result<(), KeyError> {
        let members = sealing::members(&row.event_type, row.event_version);
        self.open_members(tenant, CallId(row.aggregate_id), Some(row.event_id), members, &mut row.data).await
    }

    /// Opens one member of a call, as the call's row has it. What is not sealed is content already.
    ///
    /// # Errors
    /// [`KeyError`]
    pub async fn open_member(&self, tenant: TenantId, call: CallId, member: Member, value: Value) -> Result<Opened, KeyError> {
        let Some(sealed) = Sealed::parse(&value) else { return Ok(Opened::Content(value)) };
        self.open_sealed(tenant, &Place::Member { call, event: None, member }, sealed).await
    }

    /// What a request is known again by: nobody can make it without the scope's key.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::Erased`] when there is no such key any more.
    pub async fn fingerprint(&self, tenant: TenantId, scope: &Scope, request: &Value) -> Result<String, KeyError> {
        let known = self.ring()?.keys_to_seal(tenant, scope).await?;
        let Known::Keys(keys) = &*known else { return Err(KeyError::Erased) };
        let tag = hmac::sign(&keys.fingerprint, canonical::to_string(request).as_bytes());
        Ok(format!("hmac:{}", canonical::hex(tag.as_ref())))
    }

    /// The scope of a data subject, whose id goes no further.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::Erased`] when the tenant's keys are gone.
    pub async fn scope_of(&self, tenant: TenantId, data_subject: &str) -> Result<Scope, KeyError> {
        let known = self.ring()?.keys_to_seal(tenant, &Scope::tenant()).await?;
        let Known::Keys(keys) = &*known else { return Err(KeyError::Erased) };
        let tag = canonical::hex(hmac::sign(&keys.data_subject, data_subject.as_bytes()).as_ref());
        Ok(Scope(tag.get(..PSEUDONYM_LENGTH).unwrap_or_default().to_owned()))
    }

    /// What an operator does with the same keys.
    ///
    /// # Errors
    /// [`KeyError::NoMasterKey`]
    pub fn custody(&self) -> Result<Custody, KeyError> {
        let ring = self.ring()?;
        Ok(Custody::new(ring.store.clone(), ring.master.clone()))
    }

    /// What a scope's artifacts are sealed with; `None` when its keys were destroyed.
    pub(crate) async fn artifact_key(&self, tenant: TenantId, scope: &Scope) -> Result<Option<ArtifactKey>, KeyError> {
        let known = self.ring()?.keys_to_seal(tenant, scope).await?;
        let Known::Keys(keys) = &*known else { return Ok(None) };
        let name = keys.newest()?.name.clone();
        Ok(Some(ArtifactKey { known, name }))
    }

    /// The same key again, by its name.
    pub(crate) async fn artifact_key_named(&self, tenant: TenantId, name: &str) -> Result<Option<ArtifactKey>, KeyError> {
        let scope = Scope::of(name.split_once('.').map(|(scope, _)| scope));
        let known = self.ring()?.keys_to_open(tenant, &scope, name).await?;
        match &*known {
            Known::Erased => Ok(None),
            Known::Keys(keys) if keys.find(name).is_some() => Ok(Some(ArtifactKey { name: name.to_owned(), known })),
            _ => Err(KeyError::Missing { tenant, kid: name.to_owned() }),
        }
    }

    async fn open_members(
        &self,
        tenant: TenantId,
        call: CallId,
        event: Option<Uuid>,
        members: &[Member],
        data: &mut Value,
    ) -> Result<(), KeyError> {
        for member in members {
            let Some(value) = data.pointer(member.pointer()) else { continue };
            let Some(sealed) = Sealed::parse(value) else { continue };
            let opened = self.open_sealed(tenant, &Place::Member { call, event, member: *member }, sealed).await?;
            sealing::put_opened(data, *member, opened);
        }
        Ok(())
    }

    async fn open_sealed(&self, tenant: TenantId, place: &Place<'_>, sealed: Sealed<'_>) -> Result<Opened, KeyError> {
        let Sealed::Jwe(text) = sealed else { return Ok(Opened::Erased) };
        let kid = jwe::header(text)?.kid;
        let scope = Scope::of(kid.split_once('.').map(|(scope, _)| scope));
        let known = self.ring()?.keys_to_open(tenant, &scope, &kid).await?;
        let keys = match &*known {
            Known::Erased => return Ok(Opened::Erased),
            Known::Absent => return Err(KeyError::Missing { tenant, kid }),
            Known::Keys(keys) => keys,
        };
        let Some(key) = keys.find(&kid) else { return Err(KeyError::Missing { tenant, kid }) };
        let bytes = jwe::open(&key.key, place, text)?;
        let content = serde_json::from_slice(&bytes);
        Ok(Opened::Content(content.map_err(|_| KeyError::Broken("what was sealed is no JSON".to_owned()))?))
    }

    fn ring(&self) -> Result<&Arc<Ring>, KeyError> {
        self.0.as_ref().ok_or(KeyError::NoMasterKey)
    }
}

impl Ring {
    /// The keys of a scope, which has some afterwards, unless they were destroyed. Where the tenant's own were, so are those of all
    /// its data subjects.
    async fn keys_to_seal(self: &Arc<Self>, tenant: TenantId, scope: &Scope) -> Result<Arc<Known>, KeyError> {
        if *scope != Scope::tenant() {
            let tenants = self.first_or_known(tenant, &Scope::tenant()).await?;
            if matches!(*tenants, Known::Erased) {
                return Ok(tenants);
            }
        }
        self.first_or_known(tenant, scope).await
    }

    async fn first_or_known(self: &Arc<Self>, tenant: TenantId, scope: &Scope) -> Result<Arc<Known>, KeyError> {
        for _ in 0..ATTEMPTS {
            let known = self.known(tenant, scope, |_| true).await?;
            if !matches!(*known, Known::Absent) {
                return Ok(known);
            }
            let key: [u8; KEY_LENGTH] = jwe::random()?;
            let (id, now) = (self.clock.new_id(), self.clock.now());
            let keys = vec![WrappedKey::wrap(&self.master, (tenant, scope), id, now, &key)?];
            // Whoever loses finds the winner's key.
            self.store.put_entry(tenant, scope, &KeyEntry { keys, erased: None }, 0).await?;
            self.forget(tenant, scope);
            // What is remembered of the tenant may be older than its erasure, and the erasure may not have seen this key. The
            // store knows: either it was there before the tenant's keys were destroyed, or this sees that they were.
            if *scope != Scope::tenant() {
                self.forget(tenant, &Scope::tenant());
                let tenants = self.known(tenant, &Scope::tenant(), |_| true).await?;
                if matches!(*tenants, Known::Erased) {
                    return Ok(tenants);
                }
            }
        }
        Err(KeyError::Unavailable("the first key cannot be made".to_owned()))
    }

    /// The keys of a scope. Where the one that is needed is not among those remembered, it may be newer than they are.
    async fn keys_to_open(self: &Arc<Self>, tenant: TenantId, scope: &Scope, kid: &str) -> Result<Arc<Known>, KeyError> {
        self.known(tenant, scope, |known| match known {
            Known::Absent => false,
            Known::Erased => true,
            Known::Keys(keys) => keys.find(kid).is_some(),
        })
        .await
    }

    async fn known(
        self: &Arc<Self>,
        tenant: TenantId,
        scope: &Scope,
        suffices: impl Fn(&Known) -> bool,
    ) -> Result<Arc<Known>, KeyError> {
        let slot = self.slot(tenant, scope);
        if let Some((read_at, known)) = slot.known()
            && suffices(&known)
            && read_at.elapsed() < FRESH
        {
            if read_at.elapsed() > STALE && slot.asking.try_lock().is_ok() {
                let (ring, scope) = (Arc::clone(self), scope.clone());
                tokio::spawn(async move { ring.ask(tenant, &scope, &slot, read_at).await.map(drop) });
            }
            return Ok(known);
        }
        let began = Instant::now();
        self.ask(tenant, scope, &slot, began).await
    }

    /// Asks the store, unless somebody else has since `since`.
    async fn ask(&self, tenant: TenantId, scope: &Scope, slot: &Slot, since: Instant) -> Result<Arc<Known>, KeyError> {
        let _asking = slot.asking.lock().await;
        if let Some((read_at, known)) = slot.known()
            && read_at > since
        {
            return Ok(known);
        }
        // What changes after this moment may be missing from the answer.
        let read_at = Instant::now();
        let entry = self.store.entry(tenant, scope).await?;
        let known = Arc::new(self.unwrap(tenant, scope, entry)?);
        slot.know(read_at, Arc::clone(&known));
        Ok(known)
    }

    fn unwrap(&self, tenant: TenantId, scope: &Scope, entry: Option<KeyEntry>) -> Result<Known, KeyError> {
        let Some(entry) = entry else { return Ok(Known::Absent) };
        if entry.is_erased(&self.master, (tenant, scope))? {
            return Ok(Known::Erased);
        }
        let mut keys = Vec::with_capacity(entry.keys.len());
        let mut first = None;
        for wrapped in &entry.keys {
            let bytes = wrapped.unwrap(&self.master, (tenant, scope))?;
            keys.push(DataKey {
                name: format!("{scope}.{}", wrapped.id),
                key: jwe::key(&bytes)?,
                artifacts: derive(&bytes, ARTIFACTS),
            });
            first.get_or_insert(bytes);
        }
        let Some(first) = first else { return Ok(Known::Absent) };
        Ok(Known::Keys(Box::new(Keys {
            keys,
            fingerprint: derive(&first, FINGERPRINT),
            data_subject: derive(&first, DATA_SUBJECT),
        })))
    }

    fn slot(&self, tenant: TenantId, scope: &Scope) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SCOPES {
            slots.clear();
        }
        Arc::clone(slots.entry((tenant, scope.clone())).or_default())
    }

    fn forget(&self, tenant: TenantId, scope: &Scope) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&(tenant, scope.clone()));
    }
}

impl Slot {
    fn known(&self) -> Option<(Instant, Arc<Known>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn know(&self, read_at: Instant, known: Arc<Known>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((read_at, known));
    }
}

impl Keys {
    fn newest(&self) -> Result<&DataKey, KeyError> {
        self.keys.last().ok_or_else(|| KeyError::Broken("an entry has no key".to_owned()))
    }

    fn find(&self, kid: &str) -> Option<&DataKey> {
        self.keys.iter().rev().find(|key| key.name == kid)
    }
}

impl ArtifactKey {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key of one artifact, and of no other.
    pub(crate) fn of_artifact(&self, tenant: TenantId, artifact: Uuid, salt: &[u8]) -> Result<LessSafeKey, KeyError> {
        let Known::Keys(keys) = &*self.known else { return Err(KeyError::Erased) };
        let key = keys.find(&self.name).ok_or(KeyError::Erased)?;
        let place = [tenant.0.as_bytes().as_slice(), artifact.as_bytes(), salt].concat();
        jwe::key(hmac::sign(&key.artifacts, &place).as_ref())
    }
}

/// A key for another purpose.
fn derive(key: &[u8], purpose: &[u8]) -> hmac::Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), purpose);
    hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.0.as_ref().map(|ring| &ring.master)).finish()
    }
}
