//! Ed25519 keys (RFC 8032) as PEM files (RFC 7468): what audit checkpoints are signed and checked with.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// What precedes the 32 bytes of a key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";

/// A key that signs audit checkpoints.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// A key that audit checkpoints are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    bytes: [u8; 32],
}

/// Why a text holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("holds no Ed25519 private key (PKCS#8 in PEM, unencrypted)")]
    Private,
    #[error("holds no Ed25519 public key (SubjectPublicKeyInfo in PEM)")]
    Public,
}

impl SigningKey {
    /// Reads a PKCS#8 private key, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`KeyError::Private`] for anything else.
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        let blocks = blocks(pem, PRIVATE).ok_or(KeyError::Private)?;
        let [document] = blocks.as_slice() else { return Err(KeyError::Private) };
        Self::of(document)
    }

    /// The PEM file of a key in PKCS#8.
    ///
    /// # Errors
    /// [`KeyError::Private`] when it is none.
    pub fn to_pem(pkcs8: &[u8]) -> Result<String, KeyError> {
        Self::of(pkcs8).map(|_| pem(PRIVATE, pkcs8))
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature over `text`, in base64. The same key and text give the same signature (RFC 8032, section 5.1.6).
    pub fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.pair.sign(text.as_bytes()))
    }

    fn of(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Private)?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Private)?;
        Ok(Self { pair, public: PublicKey::of(bytes) })
    }
}

impl PublicKey {
    /// Reads every key of a PEM file, of which there must be one at least.
    ///
    /// # Errors
    /// [`KeyError::Public`] when there is none, or something else beside them.
    pub fn parse(pem: &str) -> Result<Vec<Self>, KeyError> {
        let key = |block: Vec<u8>| Some(Self::of(block.strip_prefix(&SPKI)?.try_into().ok()?));
        let keys: Option<Vec<_>> = blocks(pem, PUBLIC).ok_or(KeyError::Public)?.into_iter().map(key).collect();
        keys.filter(|keys| !keys.is_empty()).ok_or(KeyError::Public)
    }

    /// Its name: the thumbprint of its JWK (RFC 7638; RFC 8037, section 2).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The PEM file.
    pub fn to_pem(&self) -> String {
        pem(PUBLIC, &[SPKI.as_slice(), &self.bytes].concat())
    }

    /// Whether `signature`, in base64, is this key's over `text`.
    pub fn verifies(&self, text: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.bytes);
        STANDARD.decode(signature).is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }

    fn of(bytes: [u8; 32]) -> Self {
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(bytes));
        Self { id: URL_SAFE_NO_PAD.encode(Sha256::digest(jwk)), bytes }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.id).finish()
    }
}

/// The blocks of a PEM file, all of which must have this label. Text outside of them is explanation.
fn blocks(pem: &str, label: &str) -> Option<Vec<Vec<u8>>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut parts = pem.split("-----BEGIN ");
    parts.next();
    parts
        .map(|part| {
            let body = part.strip_prefix(begin.trim_start_matches("-----BEGIN "))?.split_once(&end)?.0;
            STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
        })
        .collect()
}

fn pem(label: &str, bytes: &[u8]) -> String {
    // Both kinds of key fit one line of 64 characters.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2, as a PKCS#8 document.
    fn example() -> SigningKey {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let seed = (0..32).map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap());
        let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let document: Vec<u8> = head.into_iter().chain(seed).collect();
        SigningKey::parse(&SigningKey::to_pem(&document).unwrap()).unwrap()
    }

    #[test]
    fn it_signs_as_the_specification_does() {
        let key = example();
        let signature = key.sign("r");
        assert!(signature.starts_with("kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZ"), "{signature}");
        let [public] = PublicKey::parse(&key.public().to_pem()).unwrap().try_into().unwrap();
        assert_eq!(&public, key.public());
        assert!(public.verifies("r", &signature));
        assert!(!public.verifies("s", &signature) && !public.verifies("r", "") && !public.verifies("r", &signature[1..]));
    }

    #[test]
    fn the_name_of_a_key_is_the_thumbprint_of_its_jwk() {
        // RFC 8037, appendix A.3.
        let bytes = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(PublicKey::of(bytes.try_into().unwrap()).id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = example();
        let pem = key.public().to_pem();
        assert_eq!(PublicKey::parse(&format!("a comment\n{pem}{pem}")).unwrap().len(), 2);
        for wrong in ["", "x", &pem.replace("PUBLIC", "PRIVATE"), &pem.replace("MCow", "MCox"), &pem[..pem.len() - 10]] {
            assert_eq!(PublicKey::parse(wrong), Err(KeyError::Public), "{wrong}");
        }
        for wrong in ["", &pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(SigningKey::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{key:?}").contains("TMz"), "{key:?}");
    }
}
