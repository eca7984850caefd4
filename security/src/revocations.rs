use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use toolgate_events::TenantId;

use crate::{Principal, TokenError};

/// Nothing is decided on what was known longer ago: a revocation is effective within this time, or nobody gets in.
pub const FRESH_FOR: Duration = Duration::from_secs(5);
/// A revocation is kept this much longer than the token it revokes: more than the leeway that the token's end has.
const KEPT_AFTER: TimeDelta = TimeDelta::seconds(60);

/// The SHA-256 of a `jti`: what a revoked token is known by, so that ids from outside are never names anywhere.
pub type TokenDigest = [u8; 32];

/// Which tokens count no longer and which tenants are shut out, as of a moment ago.
#[derive(Debug, Default)]
pub struct Revocations(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    /// When what is here was last known to be all there is; never, at first.
    confirmed_at: Option<Instant>,
    /// With the time after which each may be forgotten.
    tokens: HashMap<TokenDigest, Option<DateTime<Utc>>>,
    tenants: HashMap<TenantId, TenantAccess>,
}

/// What an operator has decided about a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantAccess {
    pub is_suspended: bool,
    /// The tenant's epoch: tokens issued at this time or earlier count no longer.
    pub tokens_revoked_at: Option<DateTime<Utc>>,
}

impl Revocations {
    pub fn digest(token_id: &str) -> TokenDigest {
        Sha256::digest(token_id).into()
    }

    /// Takes note of a revoked token. `expires_at` is its `exp`, when that is known: the note may go soon after.
    pub fn revoke_token(&self, token: TokenDigest, expires_at: Option<DateTime<Utc>>) {
        self.write().tokens.insert(token, expires_at.and_then(|end| end.checked_add_signed(KEPT_AFTER)));
    }

    pub fn set_tenant(&self, tenant: TenantId, access: TenantAccess) {
        self.write().tenants.insert(tenant, access);
    }

    /// Forgets revoked tokens that have ended anyway.
    pub fn forget_expired(&self, now: DateTime<Utc>) {
        self.write().tokens.retain(|_, until| until.is_none_or(|until| until > now));
    }

    /// Says that everything revoked before `as_of` has been noted.
    pub fn confirm(&self, as_of: Instant) {
        self.write().confirmed_at = Some(as_of);
    }

    /// Whether what is known is fresh enough to let anybody in.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn readiness(&self) -> Result<(), String> {
        let is_fresh = self.read().is_fresh(Instant::now());
        if is_fresh { Ok(()) } else { Err(format!("revocations have not been confirmed for {} s", FRESH_FOR.as_secs())) }
    }

    /// Whether a verified token still counts at the time `at`.
    pub(crate) fn check(&self, principal: &Principal, at: Instant) -> Result<(), TokenError> {
        let state = self.read();
        if !state.is_fresh(at) {
            return Err(TokenError::Unconfirmed);
        }
        if !state.tokens.is_empty() && principal.token_id.as_ref().is_some_and(|id| state.tokens.contains_key(&Self::digest(id)))
        {
            return Err(TokenError::Revoked);
        }
        let access = state.tenants.get(&principal.tenant_id).copied().unwrap_or_default();
        if access.tokens_revoked_at.is_some_and(|epoch| principal.issued_at <= epoch) {
            return Err(TokenError::Revoked);
        }
        if access.is_suspended { Err(TokenError::Suspended) } else { Ok(()) }
    }

    // What is here stays consistent whatever panicked while holding it.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_fresh(&self, at: Instant) -> bool {
        self.confirmed_at.is_some_and(|confirmed| at.saturating_duration_since(confirmed) <= FRESH_FOR)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(7));
    const ISSUED: i64 = 1_800_000_000;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn principal(token_id: Option<&str>) -> Principal {
        Principal {
            tenant_id: TENANT,
            subject: "alice".to_owned(),
            roles: Vec::new(),
            permissions: Vec::new(),
            session_id: None,
            token_id: token_id.map(str::to_owned),
            key_id: "k".to_owned(),
            issued_at: at(ISSUED),
            expires_at: at(ISSUED + 60),
        }
    }

    fn confirmed() -> (Revocations, Instant) {
        let (revocations, now) = (Revocations::default(), Instant::now());
        revocations.confirm(now);
        (revocations, now)
    }

    #[test]
    fn nobody_gets_in_on_old_knowledge() {
        let revocations = Revocations::default();
        let now = Instant::now();
        assert!(matches!(revocations.check(&principal(None), now), Err(TokenError::Unconfirmed)));
        assert!(revocations.readiness().unwrap_err().contains("5 s"));
        revocations.confirm(now);
        assert!(revocations.readiness().is_ok());
        let after = |milliseconds| revocations.check(&principal(None), now + Duration::from_millis(milliseconds));
        assert!(after(4_999).is_ok() && after(5_000).is_ok());
        assert!(matches!(after(5_001), Err(TokenError::Unconfirmed)));
    }

    #[test]
    fn a_revoked_token_is_refused_and_no_other() {
        let (revocations, now) = confirmed();
        revocations.revoke_token(Revocations::digest("a"), None);
        assert!(matches!(revocations.check(&principal(Some("a")), now), Err(TokenError::Revoked)));
        assert!(revocations.check(&principal(Some("b")), now).is_ok());
        assert!(revocations.check(&principal(None), now).is_ok());
    }

    #[test]
    fn a_revocation_outlives_its_token_and_then_goes() {
        let (revocations, now) = confirmed();
        revocations.revoke_token(Revocations::digest("a"), Some(at(ISSUED)));
        revocations.revoke_token(Revocations::digest("b"), None);
        let is_revoked = |id| revocations.check(&principal(Some(id)), now).is_err();
        revocations.forget_expired(at(ISSUED + 59));
        assert!(is_revoked("a") && is_revoked("b"));
        revocations.forget_expired(at(ISSUED + 60));
        assert!(!is_revoked("a") && is_revoked("b"));
    }

    #[test]
    fn an_epoch_refuses_what_was_issued_until_then() {
        let (revocations, now) = confirmed();
        for (epoch, refused) in [(ISSUED - 1, false), (ISSUED, true), (ISSUED + 1, true)] {
            let access = TenantAccess { is_suspended: false, tokens_revoked_at: Some(at(epoch)) };
            revocations.set_tenant(TENANT, access);
            let checked = revocations.check(&principal(None), now);
            assert_eq!(matches!(checked, Err(TokenError::Revoked)), refused, "{epoch}: {checked:?}");
            assert_eq!(checked.is_ok(), !refused, "{epoch}");
        }
    }

    #[test]
    fn a_suspended_tenant_is_shut_out_until_it_is_resumed() {
        let (revocations, now) = confirmed();
        revocations.set_tenant(TENANT, TenantAccess { is_suspended: true, tokens_revoked_at: None });
        revocations.set_tenant(TenantId(Uuid::from_u128(8)), TenantAccess::default());
        assert!(matches!(revocations.check(&principal(None), now), Err(TokenError::Suspended)));
        let other = Principal { tenant_id: TenantId(Uuid::from_u128(8)), ..principal(None) };
        assert!(revocations.check(&other, now).is_ok());
        revocations.set_tenant(TENANT, TenantAccess::default());
        assert!(revocations.check(&principal(None), now).is_ok());
    }
}
