use std::{fmt, sync::Arc};

use aws_lc_rs::aead::LessSafeKey;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    KeyError,
    jwe::{self, KEY_LENGTH, Place},
};

/// The keys that all other keys are wrapped under, from a JWK Set (RFC 7517) that the operator keeps apart from the log. The first
/// wraps, all unwrap.
#[derive(Clone)]
pub struct MasterKeys(Arc<[Master]>);

struct Master {
    kid: String,
    key: LessSafeKey,
}

#[derive(Serialize, Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    k: String,
    #[serde(default = "used_for", rename = "use")]
    used_for: String,
}

fn used_for() -> String {
    "enc".to_owned()
}

impl MasterKeys {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it, without a word of the keys.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The library's own words could quote a key.
        let document: Document = serde_json::from_str(text).map_err(|error| format!("line {} is no JWK Set", error.line()))?;
        let mut keys: Vec<Master> = Vec::with_capacity(document.keys.len());
        for (index, Jwk { kty, kid, k, .. }) in document.keys.into_iter().enumerate() {
            if kty != "oct" {
                return Err(format!("key {index} is no symmetric one: its `kty` must be `oct`"));
            }
            if kid.is_empty() || keys.iter().any(|other| other.kid == kid) {
                return Err(format!("key {index} needs a `kid` of its own"));
            }
            let bytes = URL_SAFE_NO_PAD.decode(k).ok().filter(|bytes| bytes.len() == KEY_LENGTH);
            let bytes = bytes.ok_or_else(|| format!("the `k` of the key {kid:?} must be 32 bytes in base64url"))?;
            keys.push(Master { key: jwe::key(&bytes).map_err(|error| error.to_string())?, kid });
        }
        if keys.is_empty() {
            return Err("it holds no key".to_owned());
        }
        Ok(Self(keys.into()))
    }

    /// The text of a file with one new key.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn generate() -> Result<String, KeyError> {
        let (kid, key): ([u8; 8], [u8; KEY_LENGTH]) = (jwe::random()?, jwe::random()?);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = Jwk { kty: "oct".to_owned(), kid: format!("m{}", encode(&kid)), k: encode(&key), used_for: used_for() };
        serde_json::to_string_pretty(&Document { keys: vec![key] }).map_err(|error| KeyError::Broken(error.to_string()))
    }

    /// The name of the key that wraps.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", |master| &master.kid)
    }

    pub(super) fn wrap(&self, purpose: &str, bytes: &[u8]) -> Result<String, KeyError> {
        let first = self.0.first().ok_or(KeyError::NoMasterKey)?;
        jwe::seal(&first.key, &first.kid, &Place::Other(purpose), bytes)
    }

    pub(super) fn unwrap(&self, purpose: &str, wrapped: &str) -> Result<Vec<u8>, KeyError> {
        let kid =
            jwe::header(wrapped).map_err(|_| KeyError::Damaged("an entry does not say what it is wrapped under".to_owned()))?.kid;
        let master = self.0.iter().find(|master| master.kid == kid).ok_or_else(|| KeyError::UnknownMasterKey(kid.clone()))?;
        jwe::open(&master.key, &Place::Other(purpose), wrapped).map_err(|_| KeyError::WrongMasterKey(kid))
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|master| &master.kid)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_wraps_and_all_unwrap() {
        let one = MasterKeys::generate().unwrap();
        let two = MasterKeys::generate().unwrap();
        let keys = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["keys"][0].clone();
        let both = serde_json::json!({"keys": [keys(&two), keys(&one)]}).to_string();
        let (old, new) = (MasterKeys::parse(&one).unwrap(), MasterKeys::parse(&both).unwrap());
        let wrapped = old.wrap("p", b"key").unwrap();
        assert_eq!(new.unwrap("p", &wrapped).unwrap(), b"key");
        let again = new.wrap("p", b"key").unwrap();
        assert!(matches!(old.unwrap("p", &again), Err(KeyError::UnknownMasterKey(_))));
        assert!(matches!(new.unwrap("q", &wrapped), Err(KeyError::WrongMasterKey(_))), "wrapped for something else");
        for header in ["", "x", &wrapped[1..]] {
            assert!(matches!(new.unwrap("p", header), Err(KeyError::Damaged(_))), "{header}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_a_word_of_it() {
        let k = URL_SAFE_NO_PAD.encode([1; 32]);
        let short = URL_SAFE_NO_PAD.encode([1; 31]);
        for text in [
            "{",
            "{}",
            r#"{"keys": []}"#,
            r#"{"keys": [{"kty": "OKP", "kid": "a", "x": "AA"}]}"#,
            &format!(r#"{{"keys": [{{"kty": "oct", "k": "{k}"}}]}}"#),
            &format!(r#"{{"keys": [{{"kty": "oct", "kid": "a", "k": "{short}"}}]}}"#),
            &format!(r#"{{"keys": [{{"kty": "oct", "kid": "a", "k": "{k}"}}, {{"kty": "oct", "kid": "a", "k": "{k}"}}]}}"#),
        ] {
            let reason = MasterKeys::parse(text).unwrap_err();
            assert!(!reason.contains(&k) && !reason.contains(&short), "{reason}");
        }
        assert_eq!(
            MasterKeys::parse(&format!(r#"{{"keys": [{{"kty": "oct", "kid": "a", "k": "{k}"}}]}}"#)).unwrap().first(),
            "a"
        );
    }
}
