//! The issuer of development tokens: a key pair that `toolgate up` makes in its data directory.
//!
//! It exists so that a fresh checkout can be used at once. Production trusts a real issuer's JWKS instead.

use std::{fs, io, path::Path};

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use serde_json::{Map, Value, json};
use uuid::{Uuid, uuid};

use crate::{
    services::{self, write_private},
    settings::Settings,
};

/// The tenant that `up` loads its demonstration data into; `--tenant demo` means it.
pub const DEMO_TENANT: Uuid = uuid!("6f9619ff-8b86-5d01-b42d-00cf4fc964ff");

const KEY_FILE: &str = "dev-key.pk8";

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no key yet.
    #[error("{0} holds no development key; `toolgate up` makes one, or name its directory with --data-dir")]
    NoKey(String),
    /// The key file cannot be read or written.
    #[error(transparent)]
    File(#[from] services::Error),
    /// The key file holds something else, or signing failed.
    #[error("the development key in {path} cannot be used: {reason}")]
    BadKey { path: String, reason: String },
    /// The claims could not be signed.
    #[error("the token cannot be signed: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// The development key pair.
pub struct DevIssuer {
    key: EncodingKey,
    public: Jwk,
    kid: String,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// `sub`.
    pub subject: String,
    /// `tenant_id`.
    pub tenant: Uuid,
    /// `roles`.
    pub roles: Vec<String>,
    /// `session_id`, left out when absent.
    pub session: Option<String>,
    /// `iat`, in whole seconds.
    pub issued_at: DateTime<Utc>,
    /// `exp` is this much later.
    pub lifetime: Duration,
    /// `jti`.
    pub id: Uuid,
    /// Claims to set to another value, in order; `null` removes the claim.
    pub overrides: Vec<(String, Value)>,
}

impl Claims {
    /// The claims of a token that begins now, for a gateway with these settings.
    #[expect(clippy::disallowed_methods, reason = "a token is where time and an id begin")]
    pub fn lasting(settings: &Settings, subject: &str, tenant: Uuid, roles: &[&str], lifetime: Duration) -> Self {
        Self {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            subject: subject.to_owned(),
            tenant,
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            session: None,
            issued_at: Utc::now(),
            lifetime,
            id: Uuid::new_v4(),
            overrides: Vec::new(),
        }
    }
}

impl DevIssuer {
    /// Reads the key of a data directory, making it on first use (mode 0600).
    ///
    /// # Errors
    /// When the key cannot be read, made or stored.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, Error> {
        match Self::load(data_dir) {
            Err(Error::NoKey(_)) => {
                let path = data_dir.join(KEY_FILE);
                let document =
                    Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| bad(&path, "no random bytes"))?;
                write_private(&path, document.as_ref())?;
                Self::load(data_dir)
            }
            loaded => loaded,
        }
    }

    /// Reads the key of a data directory.
    ///
    /// # Errors
    /// [`Error::NoKey`] when there is none; else when it cannot be used.
    pub fn load(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(KEY_FILE);
        let document = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoKey(data_dir.display().to_string()),
            _ => bad(&path, error),
        })?;
        let key = EncodingKey::from_ed_der(&document);
        let mut public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(|error| bad(&path, error))?;
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(|error| bad(&path, error))?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { key, public, kid })
    }

    /// The public half, as a JWKS document (RFC 7517); the key id is its thumbprint (RFC 7638).
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn mint(&self, claims: &Claims) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        encode(&header, &claims.to_json(), &self.key).map_err(Error::Sign)
    }
}

impl Claims {
    fn to_json(&self) -> Map<String, Value> {
        let issued_at = self.issued_at.timestamp();
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| match value {
            Value::Null => drop(claims.remove(name)),
            value => drop(claims.insert(name.to_owned(), value)),
        };
        set("iss", json!(self.issuer));
        set("aud", json!(self.audience));
        set("sub", json!(self.subject));
        set("iat", json!(issued_at));
        set("exp", json!(issued_at.saturating_add(self.lifetime.num_seconds())));
        set("tenant_id", json!(self.tenant));
        set("roles", json!(self.roles));
        set("session_id", json!(self.session));
        set("jti", json!(self.id));
        for (name, value) in &self.overrides {
            set(name, value.clone());
        }
        claims
    }
}

impl std::fmt::Debug for DevIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevIssuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn bad(path: &Path, reason: impl ToString) -> Error {
    Error::BadKey { path: path.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    use super::*;
    use crate::services::DataDir;

    fn claims(overrides: Vec<(String, Value)>) -> Claims {
        Claims {
            issuer: "toolgate-dev".into(),
            audience: "toolgate".into(),
            subject: "tester".into(),
            tenant: DEMO_TENANT,
            roles: vec!["agent".into()],
            session: None,
            // A day in 2096, so that the token is still valid whenever the tests run.
            issued_at: DateTime::from_timestamp(4_000_000_000, 0).unwrap(),
            lifetime: Duration::hours(1),
            id: Uuid::from_u128(1),
            overrides,
        }
    }

    #[test]
    fn a_minted_token_verifies_against_the_published_key() {
        let directory = DataDir::temporary().unwrap();
        assert!(matches!(DevIssuer::load(directory.path()), Err(Error::NoKey(_))));
        let issuer = DevIssuer::load_or_create(directory.path()).unwrap();
        let token = issuer.mint(&claims(vec![])).unwrap();
        // A second start must publish the same key.
        let again = DevIssuer::load_or_create(directory.path()).unwrap();
        let kid = decode_header(&token).unwrap().kid.unwrap();
        let jwks = again.jwks();
        let key = DecodingKey::from_jwk(jwks.find(&kid).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&["toolgate"]);
        validation.set_issuer(&["toolgate-dev"]);
        let decoded = decode::<Map<String, Value>>(&token, &key, &validation).unwrap().claims;
        assert_eq!(decoded["tenant_id"], json!(DEMO_TENANT));
        assert_eq!(decoded["roles"], json!(["agent"]));
        assert!(!decoded.contains_key("session_id"));
        let mode = fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_jwks_document_has_the_registered_members() {
        let directory = DataDir::temporary().unwrap();
        let issuer = DevIssuer::load_or_create(directory.path()).unwrap();
        let document = serde_json::to_value(issuer.jwks()).unwrap();
        let key = &document["keys"][0];
        for (member, value) in [("kty", "OKP"), ("crv", "Ed25519"), ("alg", "EdDSA"), ("use", "sig")] {
            assert_eq!(key[member], value, "{document}");
        }
        assert!(key.get("d").is_none());
        assert_eq!(key["kid"].as_str().unwrap().len(), 43);
    }

    #[test]
    fn overrides_replace_and_remove_claims() {
        let overrides = vec![
            ("aud".to_owned(), json!(["a", "b"])),
            ("exp".to_owned(), Value::Null),
            ("permissions".to_owned(), json!(["tool:list"])),
        ];
        let claims = claims(overrides).to_json();
        assert_eq!(claims["aud"], json!(["a", "b"]));
        assert_eq!(claims["permissions"], json!(["tool:list"]));
        assert!(!claims.contains_key("exp"));
    }
}
