//! When a token says it counts. The clock goes on between signing and checking, so the boundaries to the second are tested beside
//! the code.

use serde_json::{Value, json};

use super::{
    Attempt, Family,
    keyring::{Keyring, Signer, claims, claims_but, header, now},
};

pub fn families(keyring: &Keyring) -> Vec<Family> {
    vec![dates(keyring), numbers(keyring)]
}

fn dates(keyring: &Keyring) -> Family {
    let now = now();
    let with = |what: &str, changes: &[(&str, Value)]| Attempt::bearer(what, keyring.with_claims(&claims_but(changes)));
    let refused = vec![
        with("no exp", &[("exp", Value::Null)]),
        with("no iat", &[("iat", Value::Null)]),
        with("ended beyond the leeway", &[("exp", json!(now - 30))]),
        with("ended long ago", &[("exp", json!(now - 86_400)), ("iat", json!(now - 90_000))]),
        with("ended in 1970", &[("exp", json!(0))]),
        with("not yet", &[("nbf", json!(now + 90))]),
        with("not for a long time", &[("nbf", json!(now + 1_000_000))]),
        with("issued tomorrow", &[("iat", json!(now + 86_400)), ("exp", json!(now + 90_000))]),
        with("issued beyond the leeway", &[("iat", json!(now + 90))]),
        with("ended before it was issued", &[("iat", json!(now)), ("exp", json!(now - 3_600))]),
    ];
    let accepted = vec![
        with("ended within the leeway", &[("exp", json!(now - 5))]),
        with("ends far in the future", &[("exp", json!(now + 1_000_000_000))]),
        with("begins within the leeway", &[("nbf", json!(now + 25))]),
        with("issued within the leeway", &[("iat", json!(now + 25))]),
        with("issued in 1970", &[("iat", json!(0))]),
        with("with fractions", &[("iat", json!(now as f64 - 0.5)), ("exp", json!(now as f64 + 60.25))]),
    ];
    Family { name: "date", refused, accepted }
}

fn numbers(keyring: &Keyring) -> Family {
    let spellings = [
        "\"9999999999\"",
        "true",
        "[9999999999]",
        "{}",
        "null",
        "-1",
        "-9999999999",
        "-0.5",
        "1e400",
        "1e300",
        "NaN",
        "Infinity",
        "+9999999999",
        "0x9999999999",
        "99999999999999999999",
        "09999999999",
    ];
    let texts = |name: &str, value: &str| {
        let claims = claims_but(&[(name, Value::Null)]).to_string();
        keyring.sign_text(Signer::Ed, &header().to_string(), &format!("{},\"{name}\":{value}}}", &claims[..claims.len() - 1]))
    };
    let mut refused = Vec::new();
    for name in ["exp", "iat", "nbf"] {
        for spelling in spellings {
            refused.push(Attempt::bearer(format!("{name} {spelling}"), texts(name, spelling)));
        }
    }
    let accepted = vec![
        Attempt::bearer("exp 9999999999", texts("exp", "9999999999")),
        Attempt::bearer("exp 9.999999999e9", texts("exp", "9.999999999e9")),
        Attempt::bearer("nbf 0", texts("nbf", "0")),
        Attempt::bearer("all of them", keyring.with_claims(&claims())),
    ];
    Family { name: "number", refused, accepted }
}
