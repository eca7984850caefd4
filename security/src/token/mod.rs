//! From the text of a bearer token to the principal it stands for.

mod claims;
mod header;
mod members;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::crypto;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub use self::claims::LEEWAY;
use self::{claims::Expected, header::Header, members::Members};
use crate::{
    Keys, Principal, Revocations,
    keys::{Current, KeySet},
};

/// Verified tokens remembered at the most; the rest pay for their signature again.
const CACHE_CAPACITY: u64 = 10_000;
/// No honest token is longer, in bytes.
const MAX_TOKEN_LENGTH: usize = 8 * 1024;

/// Turns a bearer token into a principal, or says why not.
pub struct TokenVerifier {
    keys: Keys,
    revocations: Arc<Revocations>,
    expected: Expected,
    verified: Cache<[u8; 32], Verified>,
}

/// A token whose signature has been checked with the keys of one generation.
#[derive(Clone)]
struct Verified {
    generation: u64,
    principal: Arc<Principal>,
}

/// Why a token was refused. The caller is told only that it was.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// 401
    #[error("the token is longer than {MAX_TOKEN_LENGTH} bytes")]
    TooLong,
    /// 401
    #[error("the token is not three parts of base64url without padding (RFC 7515, section 7.1), the first two JSON objects")]
    Malformed,
    /// 401
    #[error("the token's header does not fit: {0}")]
    Header(&'static str),
    /// 401
    #[error("the token's key is not known")]
    UnknownKey,
    /// 401
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    /// 401
    #[error("the token's signature is wrong")]
    Signature,
    /// 401
    #[error("the token has expired")]
    Expired,
    /// 401
    #[error("the token is not valid yet")]
    NotYetValid,
    /// 401
    #[error("the token's claims do not fit: {0}")]
    Claims(&'static str),
    /// 401
    #[error("the token has been revoked")]
    Revoked,
    /// 403
    #[error("the tenant is suspended")]
    Suspended,
    /// 503
    #[error("there are no keys to check tokens with yet")]
    NoKeys,
    /// 503
    #[error("revocations cannot be checked")]
    Unconfirmed,
}

impl TokenVerifier {
    pub fn new(keys: Keys, revocations: Arc<Revocations>, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let expected = Expected { issuer: issuer.into(), audience: audience.into() };
        Self { keys, revocations, expected, verified: Cache::new(CACHE_CAPACITY) }
    }

    /// Verifies `token` at the time `now`. A token verified before with the same keys is only checked for its end and for its
    /// revocation.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Principal>, TokenError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::TooLong);
        }
        let principal = self.verified(token, now).await?;
        self.revocations.check(&principal, Instant::now())?;
        Ok(principal)
    }

    /// Whether a token verified earlier would still be accepted, but for its end: for answers that go on for long.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn recheck(&self, principal: &Principal) -> Result<(), TokenError> {
        self.keys.current().set.find(&principal.key_id).ok_or(TokenError::UnknownKey)?;
        self.revocations.check(principal, Instant::now())
    }

    /// Whether tokens can be checked at all.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn readiness(&self) -> Result<(), String> {
        self.keys.readiness()?;
        self.revocations.readiness()
    }

    async fn verified(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Principal>, TokenError> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let current = self.keys.current();
        if let Some(verified) = self.verified.get(&digest).filter(|verified| verified.generation == current.generation) {
            if claims::is_current(&verified.principal, now) {
                return Ok(verified.principal);
            }
            self.verified.invalidate(&digest);
            return Err(TokenError::Expired);
        }
        let (generation, principal) = self.verify_signature(token, current, now).await?;
        let principal = Arc::new(principal);
        // With the generation of the keys it was checked with: when they have changed meanwhile, this is never found.
        self.verified.insert(digest, Verified { generation, principal: Arc::clone(&principal) });
        Ok(principal)
    }

    async fn verify_signature(&self, token: &str, current: Current, now: DateTime<Utc>) -> Result<(u64, Principal), TokenError> {
        let parts = Parts::split(token)?;
        let header = Header::read(members(parts.header)?)?;
        let current = match current.set.find(&header.key_id) {
            Some(_) => current,
            None => self.keys.look_again(current.generation).await,
        };
        if current.generation == 0 {
            return Err(TokenError::NoKeys);
        }
        check_signature(&parts, &header, &current.set)?;
        let principal = claims::principal(members(parts.payload)?, header.key_id, &self.expected, now)?;
        Ok((current.generation, principal))
    }
}

/// A token in the compact serialization (RFC 7515, section 7.1).
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What the signature is over: header and payload as they came.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) =
            signed.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(TokenError::Malformed)?;
        Ok(Self { header, payload, signature, signed })
    }
}

/// The JSON object in one part. The decoder takes one spelling only: no padding, no whitespace, no bits left over.
fn members(part: &str) -> Result<Members, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

fn check_signature(parts: &Parts<'_>, header: &Header, keys: &KeySet) -> Result<(), TokenError> {
    let (algorithm, key) = keys.find(&header.key_id).ok_or(TokenError::UnknownKey)?;
    if header.algorithm != algorithm {
        return Err(TokenError::WrongAlgorithm);
    }
    match crypto::verify(parts.signature, parts.signed.as_bytes(), key, algorithm) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(TokenError::Signature),
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("keys", &self.keys).field("expected", &self.expected).finish_non_exhaustive()
    }
}
