use std::{collections::HashMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The public keys tokens are checked with, each bound to the one algorithm it may be used with.
#[derive(Default)]
pub struct KeySet(HashMap<String, (Algorithm, DecodingKey)>);

/// Longest `kid`, in bytes, of a key and of a token.
pub(crate) const MAX_KEY_ID_LENGTH: usize = 256;
/// Bits of an RSA modulus: fewer can be factored, and more are not verified by the cryptography underneath.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Ed25519 points of small order, their sign bit cleared, in every encoding (https://eprint.iacr.org/2020/1244, table 1): under such
/// a key one signature fits many messages.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(0x01, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05,
        0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa,
        0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
];

const fn with_ends(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// The text is no key set at all.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON Web Key Set (RFC 7517): {0}")]
pub struct JwksError(#[from] serde_json::Error);

/// Why one key of a set is of no use here.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("not a JSON Web Key: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it has no kid of 1 to {MAX_KEY_ID_LENGTH} bytes, so tokens could not name it")]
    NoKeyId,
    #[error("its kid is that of a key before it")]
    SameKeyId,
    #[error("its use is not sig, or its key_ops lack verify")]
    OtherUse,
    #[error("it holds a private key, which does not belong into a published set")]
    Private,
    #[error("it is not one of EdDSA (Ed25519), ES256 and RS256")]
    Unsupported,
    #[error("its alg is not {0:?}")]
    OtherAlgorithm(Algorithm),
    #[error("it is weak or no such key: {0}")]
    Weak(&'static str),
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] jsonwebtoken::errors::Error),
}

/// Keys are read one by one: an issuer may publish some that this release has never heard of.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS document. Keys that cannot be used are ignored, as RFC 7517, section 5, asks; none may be left.
    ///
    /// # Errors
    /// [`JwksError`]
    pub fn parse(document: &str) -> Result<Self, JwksError> {
        let Document { keys: documents } = serde_json::from_str(document)?;
        let mut keys = HashMap::new();
        for document in documents {
            let kid = document["kid"].as_str().unwrap_or_default().to_owned();
            let added = read(document).and_then(|(kid, algorithm, key)| {
                // Which of the two is meant nobody can tell: the first stays, whatever is added after it.
                if keys.contains_key(&kid) {
                    return Err(Unusable::SameKeyId);
                }
                keys.insert(kid, (algorithm, key));
                Ok(())
            });
            if let Err(error) = added {
                tracing::warn!(jwk.kid = kid, error = %error, "ignoring a key of the key set");
            }
        }
        Ok(Self(keys))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&self, kid: &str) -> Option<(Algorithm, &DecodingKey)> {
        self.0.get(kid).map(|(algorithm, key)| (*algorithm, key))
    }
}

fn read(document: Value) -> Result<(String, Algorithm, DecodingKey), Unusable> {
    if document.get("d").is_some() {
        return Err(Unusable::Private);
    }
    let jwk: Jwk = serde_json::from_value(document)?;
    let kid = jwk.common.key_id.clone().filter(|kid| (1..=MAX_KEY_ID_LENGTH).contains(&kid.len())).ok_or(Unusable::NoKeyId)?;
    let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|key_use| *key_use == PublicKeyUse::Signature);
    let may_verify = jwk.common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures || !may_verify {
        return Err(Unusable::OtherUse);
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            check_ed25519(&bytes(&key.x)?)?;
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            if bytes(&key.x)?.len() != 32 || bytes(&key.y)?.len() != 32 {
                return Err(Unusable::Weak("coordinates of P-256 have 32 bytes"));
            }
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(key) => {
            check_rsa(&bytes(&key.n)?, &bytes(&key.e)?)?;
            Algorithm::RS256
        }
        _ => return Err(Unusable::Unsupported),
    };
    if jwk.common.key_algorithm.is_some_and(|named| named != algorithm.into()) {
        return Err(Unusable::OtherAlgorithm(algorithm));
    }
    Ok((kid, algorithm, DecodingKey::from_jwk(&jwk)?))
}

fn bytes(text: &str) -> Result<Vec<u8>, Unusable> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable::Weak("its numbers are not base64url"))
}

fn check_ed25519(point: &[u8]) -> Result<(), Unusable> {
    let mut point: [u8; 32] = point.try_into().map_err(|_| Unusable::Weak("points of Ed25519 have 32 bytes"))?;
    point[31] &= 0x7f;
    if SMALL_ORDER.contains(&point) { Err(Unusable::Weak("its point has a small order")) } else { Ok(()) }
}

fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), Unusable> {
    if !RSA_BITS.contains(&bits(modulus)) {
        return Err(Unusable::Weak("an RSA modulus has 2048 to 8192 bits"));
    }
    // With the exponent 1 a signature is its own message.
    let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if is_odd && bits(exponent) > 1 { Ok(()) } else { Err(Unusable::Weak("an RSA exponent is odd and greater than 1")) }
}

/// Significant bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
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

    fn rsa(bytes: usize, first: u8, exponent: &[u8]) -> Value {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = first;
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent), "kid": "r"})
    }

    #[test]
    fn keys_that_cannot_be_used_are_ignored() {
        let unusable = [
            ("another use", ed25519(&[("use", json!("enc"))])),
            ("another operation", ed25519(&[("key_ops", json!(["sign"]))])),
            ("another algorithm", ed25519(&[("alg", json!("ES256"))])),
            ("an unknown algorithm", ed25519(&[("alg", json!("XYZ"))])),
            ("another curve", ed25519(&[("crv", json!("X25519"))])),
            ("an unknown type", ed25519(&[("kty", json!("AKP"))])),
            ("a secret", json!({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"})),
            ("a private key", ed25519(&[("d", json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))])),
            ("no kid", ed25519(&[("kid", Value::Null)])),
            ("an empty kid", ed25519(&[("kid", json!(""))])),
            ("a kid that is too long", ed25519(&[("kid", json!("k".repeat(257)))])),
            ("no base64", ed25519(&[("x", json!("?"))])),
            ("a point that is too short", ed25519(&[("x", json!(URL_SAFE_NO_PAD.encode([7; 31])))])),
            ("another type of member", ed25519(&[("use", json!(5))])),
            ("RSA for another algorithm", {
                let mut key = rsa(256, 0xff, &[1, 0, 1]);
                key["alg"] = json!("PS256");
                key
            }),
            ("P-384", json!({"kty": "EC", "crv": "P-384", "x": "AQ", "y": "AQ", "kid": "bad"})),
            ("short coordinates", json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "bad"})),
            ("no object", json!("key")),
        ];
        for (what, key) in unusable {
            assert!(parse(std::slice::from_ref(&key)).unwrap().is_empty(), "{what}");
            assert!(parse(&[key, ed25519(&[])]).unwrap().find("good").is_some(), "{what}");
        }
    }

    #[test]
    fn weak_keys_are_ignored() {
        let is_taken = |key: Value| !parse(&[key]).unwrap().is_empty();
        for (bytes, first, exponent, taken) in [
            (256, 0x7f, &[1, 0, 1][..], false),
            (256, 0x80, &[1, 0, 1], true),
            (1024, 0xff, &[1, 0, 1], true),
            (1025, 0x01, &[1, 0, 1], false),
            (257, 0x00, &[1, 0, 1], true),
            (256, 0xff, &[3], true),
            (256, 0xff, &[0, 1], false),
            (256, 0xff, &[2], false),
            (256, 0xff, &[0], false),
            (256, 0xff, &[], false),
        ] {
            assert_eq!(is_taken(rsa(bytes, first, exponent)), taken, "{bytes} {first} {exponent:?}");
        }
        for point in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = point;
                point[31] |= sign;
                assert!(!is_taken(ed25519(&[("x", json!(URL_SAFE_NO_PAD.encode(point)))])), "{point:?}");
            }
        }
        let coordinate = URL_SAFE_NO_PAD.encode([7; 32]);
        assert!(is_taken(json!({"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate, "kid": "e"})));
        for (x, y) in [(coordinate.as_str(), "AQ"), ("AQ", coordinate.as_str())] {
            assert!(!is_taken(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "e"})));
        }
    }

    #[test]
    fn a_key_is_bound_to_its_one_algorithm() {
        let named = [("use", json!("sig")), ("alg", json!("EdDSA")), ("key_ops", json!(["verify"]))];
        let longest = "k".repeat(256);
        for key in [ed25519(&[]), ed25519(&named)] {
            assert_eq!(parse(&[key]).unwrap().find("good").unwrap().0, Algorithm::EdDSA);
        }
        assert_eq!(parse(&[rsa(256, 0xff, &[1, 0, 1])]).unwrap().find("r").unwrap().0, Algorithm::RS256);
        assert!(parse(&[ed25519(&[("kid", json!(longest))])]).unwrap().find(&longest).is_some());
    }

    #[test]
    fn of_two_keys_with_one_kid_the_first_counts() {
        let mut second = rsa(256, 0xff, &[1, 0, 1]);
        second["kid"] = json!("good");
        assert_eq!(parse(&[ed25519(&[]), second]).unwrap().find("good").unwrap().0, Algorithm::EdDSA);
    }

    #[test]
    fn a_set_may_be_empty_but_must_be_one() {
        assert!(parse(&[]).unwrap().is_empty());
        assert!(!parse(&[ed25519(&[])]).unwrap().is_empty());
        for malformed in ["", "[]", "{}", r#"{"keys": {}}"#] {
            assert!(KeySet::parse(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_set_shows_its_key_ids_and_no_more() {
        assert_eq!(format!("{:?}", parse(&[ed25519(&[])]).unwrap()), r#"{"good"}"#);
    }
}
