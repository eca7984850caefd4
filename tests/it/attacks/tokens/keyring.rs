use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use toolgate_store::Clock;
use uuid::Uuid;

/// The key pairs of an issuer: one of each algorithm, every one with a kid of its own.
pub struct Keyring {
    pub ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    ec_der: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    Ed,
    Ec,
    /// ECDSA with the signature in DER, as TLS has it and JOSE has not.
    EcDer,
    Rsa,
    RsaSha512,
    RsaPss,
}

/// Names and algorithms of the three keys.
pub const KEYS: [(Signer, &str, &str); 3] =
    [(Signer::Ed, "ed", "EdDSA"), (Signer::Ec, "ec", "ES256"), (Signer::Rsa, "rsa", "RS256")];

impl Keyring {
    pub fn generate() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap(),
            ec_der: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, ec.as_ref()).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    pub fn jwks(&self) -> Value {
        json!({"keys": KEYS.map(|(signer, kid, alg)| self.jwk(signer, kid, alg))})
    }

    pub fn jwk(&self, signer: Signer, kid: &str, alg: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match signer {
            Signer::Ed => json!({"kty": "OKP", "crv": "Ed25519", "x": text(self.ed.public_key().as_ref())}),
            Signer::Ec | Signer::EcDer => {
                let point = &self.ec.public_key().as_ref()[1..];
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[..32]), "y": text(&point[32..])})
            }
            Signer::Rsa | Signer::RsaSha512 | Signer::RsaPss => {
                let key = self.rsa.public_key();
                let (n, e) = (key.modulus().big_endian_without_leading_zero(), key.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": text(n), "e": text(e)})
            }
        };
        for (name, value) in [("kid", kid), ("alg", alg), ("use", "sig")] {
            key[name] = json!(value);
        }
        key
    }

    /// The public key as a SubjectPublicKeyInfo (RFC 5280).
    pub fn der(&self, signer: Signer) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match signer {
            Signer::Ed => self.ed.public_key().as_der().unwrap(),
            Signer::Ec | Signer::EcDer => self.ec.public_key().as_der().unwrap(),
            Signer::Rsa | Signer::RsaSha512 | Signer::RsaPss => self.rsa.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn pem(&self, signer: Signer) -> String {
        let text = STANDARD.encode(self.der(signer));
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    pub fn signature(&self, signer: Signer, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match signer {
            Signer::Ed => self.ed.sign(message).as_ref().to_vec(),
            Signer::Ec => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::EcDer => self.ec_der.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Rsa => rsa(&RSA_PKCS1_SHA256),
            Signer::RsaSha512 => rsa(&RSA_PKCS1_SHA512),
            Signer::RsaPss => rsa(&RSA_PSS_SHA256),
        }
    }

    /// A token of texts as they are.
    pub fn sign_text(&self, signer: Signer, header: &str, payload: &str) -> String {
        self.sign_parts(signer, &encode(header), &encode(payload))
    }

    /// A token of parts that are encoded already.
    pub fn sign_parts(&self, signer: Signer, header: &str, payload: &str) -> String {
        let signed = format!("{header}.{payload}");
        format!("{signed}.{}", encode(self.signature(signer, signed.as_bytes())))
    }

    /// A token with this header and good claims.
    pub fn with_header(&self, signer: Signer, header: &Value) -> String {
        self.sign_text(signer, &header.to_string(), &claims().to_string())
    }

    /// A token under the Ed25519 key with these claims.
    pub fn with_claims(&self, claims: &Value) -> String {
        self.sign_text(Signer::Ed, &header().to_string(), &claims.to_string())
    }

    /// A token under the Ed25519 key that nobody could object to.
    pub fn good(&self) -> String {
        self.with_claims(&claims())
    }
}

/// A token signed with a secret, under an HMAC algorithm.
pub fn by_secret(algorithm: hmac::Algorithm, header: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
    format!("{signed}.{}", encode(tag))
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "ed"})
}

pub fn now() -> i64 {
    Clock::system().now().timestamp()
}

/// Claims that nobody could object to, of a tenant of their own.
pub fn claims() -> Value {
    let tenant: Uuid = Clock::system().new_id();
    json!({
        "iss": "toolgate-dev", "aud": "toolgate", "sub": "tester", "tenant_id": tenant, "roles": ["admin"],
        "iat": now(), "exp": now() + 3600,
    })
}

/// The same with other members; null takes one away.
pub fn claims_but(changes: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
            value => claims[*name] = value.clone(),
        }
    }
    claims
}
