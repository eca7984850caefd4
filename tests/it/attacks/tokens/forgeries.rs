//! Signatures that nobody with the private key has made.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::{
    Attempt, Family,
    keyring::{KEYS, Keyring, Signer, by_secret, claims, encode, header},
};

pub fn families(keyring: &Keyring) -> Vec<Family> {
    vec![secrets(keyring), altered(keyring), curves(keyring), encodings(keyring)]
}

fn good(keyring: &Keyring) -> Vec<Attempt> {
    let token = |(signer, kid, alg)| Attempt::bearer(alg, keyring.with_header(signer, &json!({"alg": alg, "kid": kid})));
    KEYS.map(token).into()
}

/// The public key taken for a shared secret, in every spelling that an attacker has of it.
fn secrets(keyring: &Keyring) -> Family {
    let mut refused = Vec::new();
    for (signer, kid, alg) in KEYS {
        let jwk = keyring.jwk(signer, kid, alg);
        let first = jwk["x"].as_str().or(jwk["n"].as_str()).unwrap().as_bytes().to_vec();
        let secrets = [
            ("PEM", keyring.pem(signer).into_bytes()),
            ("PEM without its last line feed", keyring.pem(signer).trim_end().as_bytes().to_vec()),
            ("DER", keyring.der(signer)),
            ("JWK", jwk.to_string().into_bytes()),
            ("first number", first),
        ];
        for (spelling, secret) in secrets {
            let header = json!({"alg": "HS256", "kid": kid});
            refused.push(Attempt::bearer(
                format!("HS256 with the {spelling} of {kid}"),
                by_secret(hmac::HMAC_SHA256, &header, &secret),
            ));
        }
    }
    let pem = keyring.pem(Signer::Rsa).into_bytes();
    for (alg, algorithm) in [("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        refused
            .push(Attempt::bearer(format!("{alg} with the PEM"), by_secret(algorithm, &json!({"alg": alg, "kid": "rsa"}), &pem)));
    }
    for alg in ["EdDSA", "RS256", "ES256"] {
        let header = json!({"alg": alg, "kid": KEYS.iter().find(|(_, _, other)| *other == alg).unwrap().1});
        refused.push(Attempt::bearer(format!("an HMAC called {alg}"), by_secret(hmac::HMAC_SHA256, &header, &pem)));
    }
    refused.push(Attempt::bearer("HS256 with nothing", by_secret(hmac::HMAC_SHA256, &json!({"alg": "HS256", "kid": "ed"}), b"")));
    refused.push(Attempt::bearer("HS256 without a kid", by_secret(hmac::HMAC_SHA256, &json!({"alg": "HS256"}), b"secret")));
    Family { name: "a shared secret", refused, accepted: good(keyring) }
}

/// A good token with something changed afterwards.
fn altered(keyring: &Keyring) -> Family {
    let token = keyring.good();
    let [head, payload, signature] = parts(&token);
    let other = keyring.good();
    let [_, other_payload, other_signature] = parts(&other);
    let none = encode(json!({"alg": "none", "kid": "ed"}).to_string());
    let mut raised: Value = claims();
    raised["roles"] = json!(["admin", "auditor"]);
    let refused = [
        ("no signature", format!("{head}.{payload}.")),
        ("alg none and no signature", format!("{none}.{payload}.")),
        ("alg none and the signature", format!("{none}.{payload}.{signature}")),
        ("other claims", format!("{head}.{}.{signature}", encode(raised.to_string()))),
        ("the claims of another token", format!("{head}.{other_payload}.{signature}")),
        ("the signature of another token", format!("{head}.{payload}.{other_signature}")),
        ("another header", format!("{}.{payload}.{signature}", encode(r#"{"kid":"ed","alg":"EdDSA" }"#))),
        ("the header of another key", format!("{}.{payload}.{signature}", encode(r#"{"alg":"ES256","kid":"ec"}"#))),
        ("header and claims exchanged", format!("{payload}.{head}.{signature}")),
        ("claims and signature exchanged", format!("{head}.{signature}.{payload}")),
        ("empty claims", format!("{head}..{signature}")),
    ];
    let mut refused: Vec<_> = refused.iter().map(|(what, token)| Attempt::bearer(*what, token)).collect();
    for (signer, kid, alg) in KEYS {
        let header = json!({"alg": alg, "kid": kid}).to_string();
        let signed = format!("{}.{}", encode(header), encode(claims().to_string()));
        let signature = keyring.signature(signer, signed.as_bytes());
        let mut flipped = signature.clone();
        flipped[5] ^= 1;
        let longer = [&signature[..], &[0]].concat();
        let led = [&[0], &signature[..]].concat();
        for (what, signature) in [
            ("with one bit flipped", &flipped[..]),
            ("cut short", &signature[..signature.len() - 1]),
            ("with a byte more", &longer),
            ("with a zero before it", &led),
            ("of zeros", &vec![0; signature.len()]),
            ("of ones", &vec![0xff; signature.len()]),
        ] {
            refused.push(Attempt::bearer(format!("{alg} {what}"), format!("{signed}.{}", encode(signature))));
        }
    }
    Family { name: "an altered token", refused, accepted: good(keyring) }
}

/// What only elliptic curves get wrong.
fn curves(keyring: &Keyring) -> Family {
    let ec = format!("{}.{}", encode(json!({"alg": "ES256", "kid": "ec"}).to_string()), encode(claims().to_string()));
    let fixed = |r: [u8; 32], s: [u8; 32]| format!("{ec}.{}", encode([r, s].concat()));
    let order = number("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let one = {
        let mut one = [0; 32];
        one[31] = 1;
        one
    };
    let ed = format!("{}.{}", encode(header().to_string()), encode(claims().to_string()));
    let honest = keyring.signature(Signer::Ed, ed.as_bytes());
    // S + L says the same modulo the order L, and RFC 8032, section 5.1.7, refuses it.
    let l = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut shifted = honest.clone();
    let mut carry = 0;
    for (byte, add) in shifted[32..].iter_mut().zip(l) {
        let sum = u16::from(*byte) + add + carry;
        (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
    }
    let identity = {
        let mut point = [0; 64];
        point[0] = 1;
        point
    };
    let mut same_point = honest.clone();
    same_point[31] ^= 0x80;
    let refused = vec![
        Attempt::bearer("ES256 with r and s zero", fixed([0; 32], [0; 32])),
        Attempt::bearer("ES256 with r zero", fixed([0; 32], one)),
        Attempt::bearer("ES256 with s zero", fixed(one, [0; 32])),
        Attempt::bearer("ES256 with r and s one", fixed(one, one)),
        Attempt::bearer("ES256 with r and s the order", fixed(order, order)),
        Attempt::bearer("ES256 in DER", keyring.with_header(Signer::EcDer, &json!({"alg": "ES256", "kid": "ec"}))),
        Attempt::bearer("EdDSA with S + L", format!("{ed}.{}", encode(&shifted))),
        Attempt::bearer("EdDSA with the identity and zero", format!("{ed}.{}", encode(identity))),
        Attempt::bearer("EdDSA with R's sign turned", format!("{ed}.{}", encode(&same_point))),
        Attempt::bearer("EdDSA with R alone", format!("{ed}.{}", encode(&honest[..32]))),
        Attempt::bearer("RS256 under SHA-512", keyring.with_header(Signer::RsaSha512, &json!({"alg": "RS256", "kid": "rsa"}))),
        Attempt::bearer("RS256 under PSS", keyring.with_header(Signer::RsaPss, &json!({"alg": "RS256", "kid": "rsa"}))),
        Attempt::bearer("PS256 with the RSA key", keyring.with_header(Signer::RsaPss, &json!({"alg": "PS256", "kid": "rsa"}))),
    ];
    let mut accepted = good(keyring);
    accepted.push(Attempt::bearer("EdDSA with S", format!("{ed}.{}", encode(&honest))));
    Family { name: "the mathematics", refused, accepted }
}

/// Other things that JOSE can make.
fn encodings(keyring: &Keyring) -> Family {
    let token = keyring.good();
    let [head, payload, signature] = parts(&token);
    let flattened = json!({"protected": head, "payload": payload, "signature": signature}).to_string();
    let general = json!({"payload": payload, "signatures": [{"protected": head, "signature": signature}]}).to_string();
    let encrypted = encode(json!({"alg": "dir", "enc": "A256GCM", "kid": "ed"}).to_string());
    let nested = keyring.sign_text(Signer::Ed, &header().to_string(), &token);
    let unencoded = format!("{head}.{}.{signature}", claims());
    let refused = vec![
        Attempt::bearer("JSON, flattened", &flattened),
        Attempt::bearer("JSON, general", &general),
        Attempt::bearer("JSON in base64url", encode(&flattened)),
        Attempt::bearer("five parts", format!("{encrypted}.AAAA.AAAA.AAAA.AAAA")),
        Attempt::bearer("five parts of a good token", format!("{token}.{payload}.{signature}")),
        Attempt::bearer("four parts", format!("{token}.{signature}")),
        Attempt::bearer("two parts", format!("{head}.{payload}")),
        Attempt::bearer("one part", head),
        Attempt::bearer("no part", ".."),
        Attempt::bearer("a detached payload", format!("{head}..{signature}")),
        Attempt::bearer("a token in a token", nested),
        Attempt::bearer("an unencoded payload", unencoded),
        Attempt::bearer("a PASETO", "v4.public.eyJzdWIiOiJ0ZXN0ZXIifQ"),
    ];
    Family { name: "another format", refused, accepted: vec![Attempt::bearer("the compact one", &token)] }
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn number(hex: &str) -> [u8; 32] {
    let bytes: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
