use std::{collections::HashMap, fmt};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The public keys tokens are checked with, each bound to the one algorithm it may be used with.
#[derive(Default)]
pub struct KeySet(HashMap<String, (Algorithm, DecodingKey)>);

/// Why a key set was refused.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("not a JSON Web Key Set (RFC 7517): {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("none of its keys can be used; the log says why")]
    NoUsableKey,
}

/// Why one key of a set is of no use here.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("not a JSON Web Key: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it has no kid, so tokens could not name it")]
    NoKeyId,
    #[error("its use is not sig")]
    OtherUse,
    #[error("it is not one of EdDSA (Ed25519), ES256 and RS256")]
    Unsupported,
    #[error("its alg is not {0:?}")]
    OtherAlgorithm(Algorithm),
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] jsonwebtoken::errors::Error),
}

/// Keys are read one by one: an issuer may publish some that this release has never heard of.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS document. Keys that cannot be used are ignored, as RFC 7517, section 5, asks.
    ///
    /// # Errors
    /// [`JwksError`], also when no key is left.
    pub fn parse(document: &str) -> Result<Self, JwksError> {
        let Document { keys: documents } = serde_json::from_str(document)?;
        let mut keys = HashMap::new();
        for document in documents {
            let kid = document["kid"].as_str().unwrap_or_default().to_owned();
            match read(document) {
                Ok((kid, algorithm, key)) => drop(keys.insert(kid, (algorithm, key))),
                Err(error) => tracing::warn!(jwk.kid = kid, error = %error, "ignoring a key of the key set"),
            }
        }
        if keys.is_empty() { Err(JwksError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    pub(crate) fn find(&self, kid: &str) -> Option<(Algorithm, &DecodingKey)> {
        self.0.get(kid).map(|(algorithm, key)| (*algorithm, key))
    }
}

fn read(document: Value) -> Result<(String, Algorithm, DecodingKey), Unusable> {
    let jwk: Jwk = serde_json::from_value(document)?;
    let kid = jwk.common.key_id.clone().ok_or(Unusable::NoKeyId)?;
    if jwk.common.public_key_use.as_ref().is_some_and(|key_use| *key_use != PublicKeyUse::Signature) {
        return Err(Unusable::OtherUse);
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return Err(Unusable::Unsupported),
    };
    if jwk.common.key_algorithm.is_some_and(|named| named != algorithm.into()) {
        return Err(Unusable::OtherAlgorithm(algorithm));
    }
    Ok((kid, algorithm, DecodingKey::from_jwk(&jwk)?))
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The example of RFC 8037, appendix A.2, with other members.
    fn ed25519(members: &[(&str, Value)]) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "good"});
        for (name, value) in members {
            key[*name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, JwksError> {
        KeySet::parse(&json!({"keys": keys}).to_string())
    }

    #[test]
    fn keys_that_cannot_be_used_are_ignored() {
        let unusable = [
            ("another use", ed25519(&[("use", json!("enc"))])),
            ("another algorithm", ed25519(&[("alg", json!("ES256"))])),
            ("an unknown algorithm", ed25519(&[("alg", json!("XYZ"))])),
            ("another curve", ed25519(&[("crv", json!("X25519"))])),
            ("an unknown type", ed25519(&[("kty", json!("AKP"))])),
            ("a secret", json!({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"})),
            ("no kid", ed25519(&[("kid", Value::Null)])),
            ("no base64", ed25519(&[("x", json!("?"))])),
            ("another type of member", ed25519(&[("use", json!(5))])),
            ("RSA for another algorithm", json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "PS256", "kid": "bad"})),
            ("no object", json!("key")),
        ];
        for (what, key) in unusable {
            assert!(matches!(parse(std::slice::from_ref(&key)), Err(JwksError::NoUsableKey)), "{what}");
            assert!(parse(&[key, ed25519(&[])]).unwrap().find("good").is_some(), "{what}");
        }
    }

    #[test]
    fn a_key_is_bound_to_its_one_algorithm() {
        let named = [("use", json!("sig")), ("alg", json!("EdDSA"))];
        for key in [ed25519(&[]), ed25519(&named)] {
            assert_eq!(parse(&[key]).unwrap().find("good").unwrap().0, Algorithm::EdDSA);
        }
        let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r"});
        assert_eq!(parse(&[rsa]).unwrap().find("r").unwrap().0, Algorithm::RS256);
    }

    #[test]
    fn a_set_without_keys_is_an_error() {
        assert!(matches!(parse(&[]), Err(JwksError::NoUsableKey)));
        for malformed in ["", "[]", "{}", r#"{"keys": {}}"#] {
            assert!(matches!(KeySet::parse(malformed), Err(JwksError::Malformed(_))), "{malformed}");
        }
    }
}
