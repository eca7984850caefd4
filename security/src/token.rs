use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Validation, decode, decode_header};
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toolgate_events::TenantId;
use uuid::Uuid;

use crate::{KeySet, Principal};

/// How far clocks may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;
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
    #[error("the token has expired")]
    Expired,
    #[error("the token's claims do not fit: {0}")]
    Claims(&'static str),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    tenant_id: Uuid,
    exp: i64,
    iat: i64,
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
        let kid = header.kid.ok_or(TokenError::NoKeyId)?;
        let (algorithm, key) = self.keys.find(&kid).ok_or(TokenError::UnknownKey)?;
        if header.alg != algorithm {
            return Err(TokenError::WrongAlgorithm);
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        let claims = decode::<Claims>(token, key, &validation)?.claims;
        if claims.sub.is_empty() || claims.sub.len() > 255 || claims.sub.chars().any(char::is_control) {
            return Err(TokenError::Claims("sub must be 1 to 255 printable characters"));
        }
        if claims.iat > now.timestamp() + i64::try_from(LEEWAY_SECONDS).unwrap_or_default() {
            return Err(TokenError::Claims("iat lies in the future"));
        }
        let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Claims("exp is no time"))?;
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
}

fn is_current(principal: &Principal, now: DateTime<Utc>) -> bool {
    now < principal.expires_at + chrono::TimeDelta::seconds(i64::try_from(LEEWAY_SECONDS).unwrap_or_default())
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("keys", &self.keys).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
