use std::{fmt, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Validation, decode, decode_header};
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toolgate_events::TenantId;
use uuid::Uuid;

use crate::{KeySet, Principal};

/// How far clocks may be apart, in seconds.
const LEEWAY_SECONDS: u32 = 30;
/// Roles, and permissions, of one token at the most.
const MAX_GRANTS: usize = 64;
/// Characters of a role, a permission or a session id at the most.
const MAX_NAME_LENGTH: usize = 128;
/// Verified tokens remembered at the most; the rest pay for their signature again.
const CACHE_CAPACITY: u64 = 10_000;
/// No honest token is longer, in bytes.
const MAX_TOKEN_LENGTH: usize = 8 * 1024;

/// Turns a bearer token into a principal, or says why not.
pub struct TokenVerifier {
    keys: KeySet,
    issuer: String,
    audience: String,
    verified: Cache<[u8; 32], Arc<Principal>>,
}

/// Why a token was refused. The caller is told only that it was.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token is longer than {MAX_TOKEN_LENGTH} bytes")]
    TooLong,
    #[error("the token names no key")]
    NoKeyId,
    #[error("the token's key is not known")]
    UnknownKey,
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    #[error("the token is not valid: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    #[error("the token's header has critical extensions, of which none is known here (RFC 7515, section 4.1.11)")]
    Critical,
    #[error("the token has expired")]
    Expired,
    #[error("the token's claims do not fit: {0}")]
    Claims(&'static str),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    tenant_id: Uuid,
    /// A NumericDate, which may have a fraction (RFC 7519, section 2).
    exp: f64,
    /// Like `exp`.
    iat: f64,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    session_id: Option<String>,
}

impl TokenVerifier {
    pub fn new(keys: KeySet, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self { keys, issuer: issuer.into(), audience: audience.into(), verified: Cache::new(CACHE_CAPACITY) }
    }

    /// Verifies `token` at the time `now`. A token verified before is only checked for its end.
    ///
    /// # Errors
    /// [`TokenError`]; each is answered with 401.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Principal>, TokenError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(principal) = self.verified.get(&digest) {
            return if is_current(&principal, now) {
                Ok(principal)
            } else {
                self.verified.invalidate(&digest);
                Err(TokenError::Expired)
            };
        }
        let principal = Arc::new(self.verify_signature(token, now)?);
        self.verified.insert(digest, Arc::clone(&principal));
        Ok(principal)
    }

    fn verify_signature(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, TokenError> {
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let kid = header.kid.ok_or(TokenError::NoKeyId)?;
        let (algorithm, key) = self.keys.find(&kid).ok_or(TokenError::UnknownKey)?;
        if header.alg != algorithm {
            return Err(TokenError::WrongAlgorithm);
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS.into();
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        principal(decode::<Claims>(token, key, &validation)?.claims, now)
    }
}

/// The principal that the claims of a signed token describe.
fn principal(claims: Claims, now: DateTime<Utc>) -> Result<Principal, TokenError> {
    if claims.sub.is_empty() || claims.sub.len() > 255 || claims.sub.chars().any(char::is_control) {
        return Err(TokenError::Claims("sub must be 1 to 255 printable characters"));
    }
    for grants in [&claims.roles, &claims.permissions] {
        if grants.len() > MAX_GRANTS || !grants.iter().all(|grant| is_name(grant)) {
            return Err(TokenError::Claims("roles and permissions must be at most 64 each, of at most 128 printable characters"));
        }
    }
    if claims.session_id.as_ref().is_some_and(|session_id| session_id.is_empty() || !is_name(session_id)) {
        return Err(TokenError::Claims("session_id must be 1 to 128 printable characters"));
    }
    if seconds(claims.iat) > now.timestamp() + i64::from(LEEWAY_SECONDS) {
        return Err(TokenError::Claims("iat lies in the future"));
    }
    let expires_at = DateTime::from_timestamp(seconds(claims.exp), 0).ok_or(TokenError::Claims("exp is no time"))?;
    let principal = Principal {
        tenant_id: TenantId(claims.tenant_id),
        subject: claims.sub,
        roles: claims.roles,
        permissions: claims.permissions,
        session_id: claims.session_id,
        expires_at,
    };
    if is_current(&principal, now) { Ok(principal) } else { Err(TokenError::Expired) }
}

fn is_name(text: &str) -> bool {
    text.chars().count() <= MAX_NAME_LENGTH && !text.contains(char::is_control)
}

/// The last whole second of a NumericDate; the cast saturates, which is beyond every time.
fn seconds(date: f64) -> i64 {
    date.floor() as i64
}

fn is_current(principal: &Principal, now: DateTime<Utc>) -> bool {
    let end = principal.expires_at.checked_add_signed(TimeDelta::seconds(LEEWAY_SECONDS.into()));
    // An end beyond the calendar is never reached.
    end.is_none_or(|end| now < end)
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("keys", &self.keys).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
    use jsonwebtoken::{
        Algorithm, EncodingKey, Header, encode,
        jwk::{Jwk, JwkSet},
    };
    use serde_json::{Value, json};

    use super::*;

    /// A day in 2096: jsonwebtoken compares with the real clock, which must not have come that far.
    const NOW: i64 = 4_000_000_000;

    fn issuer() -> (EncodingKey, TokenVerifier) {
        let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ed_der(document.as_ref());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
        public.common.key_id = Some("k".to_owned());
        let keys = KeySet::parse(&serde_json::to_string(&JwkSet { keys: vec![public] }).unwrap()).unwrap();
        (key, TokenVerifier::new(keys, "issuer", "toolgate"))
    }

    /// Verifies a token that is good but for `overrides` of its claims and for its critical extensions.
    fn verify(overrides: &[(&str, Value)], crit: Option<Vec<String>>) -> Result<Arc<Principal>, TokenError> {
        let mut claims = json!({
            "iss": "issuer", "aud": "toolgate", "sub": "alice", "tenant_id": Uuid::nil(),
            "iat": NOW, "exp": NOW + 60, "roles": ["agent"], "permissions": ["tool:list"], "session_id": "s",
        });
        for (name, value) in overrides {
            claims[*name] = value.clone();
        }
        let (key, verifier) = issuer();
        let header = Header { kid: Some("k".to_owned()), crit, ..Header::new(Algorithm::EdDSA) };
        verifier.verify(&encode(&header, &claims, &key).unwrap(), DateTime::from_timestamp(NOW, 0).unwrap())
    }

    #[test]
    fn text_without_bounds_or_with_control_characters_is_refused() {
        let long = "x".repeat(129);
        let refused = [
            ("sub", json!("a\0b")),
            ("sub", json!("a\u{7f}")),
            ("roles", json!(["agent", "a\0"])),
            ("roles", json!([long])),
            ("roles", json!(vec!["agent"; 65])),
            ("permissions", json!(["a\nb"])),
            ("permissions", json!([long])),
            ("permissions", json!(vec!["tool:list"; 65])),
            ("session_id", json!("")),
            ("session_id", json!("a\0b")),
            ("session_id", json!(long)),
        ];
        for (name, value) in refused {
            let verified = verify(&[(name, value.clone())], None);
            assert!(matches!(verified, Err(TokenError::Claims(_))), "{name} {value}: {verified:?}");
        }
        let longest = "é".repeat(128);
        let accepted = [
            ("roles", json!([longest])),
            ("roles", json!(vec!["agent"; 64])),
            ("permissions", json!([])),
            ("session_id", json!(longest)),
            ("session_id", Value::Null),
        ];
        for (name, value) in accepted {
            assert!(verify(&[(name, value.clone())], None).is_ok(), "{name} {value}");
        }
    }

    #[test]
    fn dates_may_have_fractions() {
        let principal = verify(&[("exp", json!(4_000_000_060.75)), ("iat", json!(4_000_000_030.5))], None).unwrap();
        assert_eq!(principal.expires_at.timestamp(), NOW + 60);
        assert!(matches!(verify(&[("iat", json!(4_000_000_031.5))], None), Err(TokenError::Claims(_))));
    }

    #[test]
    fn dates_at_the_end_of_the_calendar_are_no_panic() {
        let last = DateTime::<Utc>::MAX_UTC.timestamp();
        assert_eq!(verify(&[("exp", json!(last))], None).unwrap().expires_at.timestamp(), last);
        for end in [json!(last + 1), json!(i64::MAX), json!(u64::MAX), json!(1e300)] {
            assert!(verify(&[("exp", end.clone())], None).is_err(), "{end}");
            assert!(verify(&[("iat", end.clone())], None).is_err(), "{end}");
        }
        assert!(verify(&[("iat", json!(i64::MIN))], None).is_ok());
    }

    #[test]
    fn critical_extensions_are_refused() {
        for crit in [vec![], vec!["exp".to_owned()]] {
            assert!(matches!(verify(&[], Some(crit)), Err(TokenError::Critical)));
        }
    }

    #[test]
    fn a_remembered_token_ends_like_any_other() {
        let (key, verifier) = issuer();
        let claims = json!({
            "iss": "issuer", "aud": "toolgate", "sub": "alice", "tenant_id": Uuid::nil(), "iat": NOW, "exp": NOW + 60,
        });
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::EdDSA) };
        let token = encode(&header, &claims, &key).unwrap();
        let at = |seconds| verifier.verify(&token, DateTime::from_timestamp(NOW + seconds, 0).unwrap());
        assert!(at(0).is_ok() && at(89).is_ok());
        assert!(matches!(at(90), Err(TokenError::Expired)));
    }
}
