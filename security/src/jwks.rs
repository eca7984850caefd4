use std::{collections::HashMap, fmt};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, JwkSet},
};

/// The public keys tokens are checked with, each bound to the one algorithm it may be used with.
#[derive(Default)]
pub struct KeySet(HashMap<String, (Algorithm, DecodingKey)>);

/// Why a key set was refused.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("not a JSON Web Key Set (RFC 7517): {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("a key without kid: tokens could not name it")]
    NoKeyId,
    #[error("the key {0} is not one of EdDSA (Ed25519), ES256 and RS256")]
    Unsupported(String),
    #[error("the key {kid} cannot be read: {source}")]
    Unreadable { kid: String, source: jsonwebtoken::errors::Error },
}

impl KeySet {
    /// Reads a JWKS document.
    ///
    /// # Errors
    /// [`JwksError`] naming the key.
    pub fn parse(document: &str) -> Result<Self, JwksError> {
        let set: JwkSet = serde_json::from_str(document)?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let kid = jwk.common.key_id.clone().ok_or(JwksError::NoKeyId)?;
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
                AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                _ => return Err(JwksError::Unsupported(kid)),
            };
            let key = DecodingKey::from_jwk(jwk).map_err(|source| JwksError::Unreadable { kid: kid.clone(), source })?;
            keys.insert(kid, (algorithm, key));
        }
        Ok(Self(keys))
    }

    pub(crate) fn find(&self, kid: &str) -> Option<(Algorithm, &DecodingKey)> {
        self.0.get(kid).map(|(algorithm, key)| (*algorithm, key))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
