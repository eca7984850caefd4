//! What the header says.

use serde_json::{Value, json};

use super::{
    Attempt, Family,
    keyring::{KEYS, Keyring, Signer, claims, header},
};

pub fn families(keyring: &Keyring) -> Vec<Family> {
    vec![algorithms(keyring), key_ids(keyring), extensions(keyring), brought_keys(keyring), types(keyring), twice(keyring)]
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut header = header();
    for (name, value) in changes {
        match value {
            Value::Null => drop(header.as_object_mut().unwrap().remove(*name)),
            value => header[*name] = value.clone(),
        }
    }
    header
}

fn signed(keyring: &Keyring, name: impl Into<String>, header: &Value) -> Attempt {
    Attempt::bearer(name, keyring.with_header(Signer::Ed, header))
}

fn algorithms(keyring: &Keyring) -> Family {
    let mut refused = Vec::new();
    for alg in [
        "none", "None", "NONE", "nOnE", "", "eddsa", "EDDSA", "Ed25519", "EdDSA ", "PS256", "ES384", "ES512", "RS384", "RS512",
        "dir",
    ] {
        refused.push(signed(keyring, format!("alg {alg:?} over a good signature"), &with(&[("alg", json!(alg))])));
    }
    for (what, alg) in
        [("no", Value::Null), ("an array as", json!(["EdDSA"])), ("a number as", json!(1)), ("true as", json!(true))]
    {
        refused.push(signed(keyring, format!("{what} alg"), &with(&[("alg", alg)])));
    }
    for (signer, kid, alg) in KEYS {
        for (_, _, other) in KEYS.iter().filter(|(_, other, _)| *other != kid) {
            let header = json!({"alg": other, "kid": kid});
            refused.push(Attempt::bearer(format!("{other} with the kid {kid}"), keyring.with_header(signer, &header)));
        }
        for (_, other, _) in KEYS.iter().filter(|(_, other, _)| *other != kid) {
            let header = json!({"alg": alg, "kid": other});
            refused.push(Attempt::bearer(format!("signed by {kid} under the kid {other}"), keyring.with_header(signer, &header)));
        }
    }
    let accepted = KEYS.map(|(signer, kid, alg)| {
        Attempt::bearer(format!("{alg} with its key"), keyring.with_header(signer, &json!({"alg": alg, "kid": kid})))
    });
    Family { name: "algorithm", refused, accepted: accepted.into() }
}

fn key_ids(keyring: &Keyring) -> Family {
    let refused = [
        ("none", Value::Null),
        ("empty", json!("")),
        ("an array", json!(["ed"])),
        ("an object", json!({"kid": "ed"})),
        ("a number", json!(1)),
        ("true", json!(true)),
        ("unknown", json!("unknown")),
        ("in capitals", json!("ED")),
        ("with a space", json!("ed ")),
        ("with a NUL", json!("ed\0")),
        ("a path", json!("../../../../dev/null")),
        ("the path of a file", json!("/proc/sys/kernel/randomize_va_space")),
        ("SQL", json!("x' union select 'secret' -- ")),
        ("a command", json!("ed|sleep 5")),
        ("an address", json!("https://attacker.example/jwks.json")),
        ("very long", json!("k".repeat(4_000))),
        ("one byte too long", json!("k".repeat(257))),
        ("Unicode that looks like it", json!("еd")),
        ("full-width", json!("ｅｄ")),
    ];
    let refused = refused.into_iter().map(|(what, kid)| signed(keyring, what, &with(&[("kid", kid)]))).collect();
    Family { name: "kid", refused, accepted: vec![signed(keyring, "the right one", &header())] }
}

fn extensions(keyring: &Keyring) -> Family {
    let refused = [
        ("crit of nothing", "crit", json!([])),
        ("crit of exp", "crit", json!(["exp"])),
        ("crit of alg", "crit", json!(["alg"])),
        ("crit of b64", "crit", json!(["b64"])),
        ("crit that is an object", "crit", json!({})),
        ("an unencoded payload", "b64", json!(false)),
        ("an encoded payload said aloud", "b64", json!(true)),
        ("a compressed payload", "zip", json!("DEF")),
        ("an encrypted payload", "enc", json!("A256GCM")),
        ("a nested token", "cty", json!("JWT")),
    ];
    let refused = refused.into_iter().map(|(what, name, value)| signed(keyring, what, &with(&[(name, value)]))).collect();
    let accepted = vec![signed(keyring, "a member nobody knows", &with(&[("unheard-of", json!("exp"))]))];
    Family { name: "extension", refused, accepted }
}

/// The attacker's key beside the attacker's signature.
fn brought_keys(keyring: &Keyring) -> Family {
    let attacker = Keyring::generate();
    let jwk = attacker.jwk(Signer::Ed, "ed", "EdDSA");
    let brought = [
        ("jwk", jwk.clone()),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/chain.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!("AAAA")),
        ("jwks", json!({"keys": [jwk]})),
    ];
    let mut refused = vec![Attempt::bearer("nothing brought", attacker.good())];
    let mut accepted = Vec::new();
    for (name, value) in brought {
        let header = with(&[(name, value)]);
        refused.push(Attempt::bearer(format!("{name} brought"), attacker.with_header(Signer::Ed, &header)));
        let mut unknown = header.clone();
        unknown["kid"] = json!("attacker");
        refused.push(Attempt::bearer(format!("{name} brought under another kid"), attacker.with_header(Signer::Ed, &unknown)));
        accepted.push(signed(keyring, format!("{name} beside a good signature"), &header));
    }
    Family { name: "a key brought along", refused, accepted }
}

fn types(keyring: &Keyring) -> Family {
    let other = ["JOSE", "JWE", "dpop+jwt", "logout+jwt", "secevent+jwt", "id_token", "application/", "text/jwt", "JWT;x=1", ""];
    let mut refused: Vec<_> = other.map(|typ| signed(keyring, format!("{typ:?}"), &with(&[("typ", json!(typ))]))).into();
    for (what, typ) in [("an array", json!(["JWT"])), ("a number", json!(1))] {
        refused.push(signed(keyring, what, &with(&[("typ", typ)])));
    }
    let ours = ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/jwt"];
    Family {
        name: "typ",
        refused,
        accepted: ours.map(|typ| signed(keyring, format!("{typ:?}"), &with(&[("typ", json!(typ))]))).into(),
    }
}

fn twice(keyring: &Keyring) -> Family {
    let texts = [
        r#"{"alg":"EdDSA","alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":"other","kid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":"ed","\u006bid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":"ed","x":1,"x":2}"#,
        r#"[{"alg":"EdDSA","kid":"ed"}]"#,
        r#"{"alg":"EdDSA","kid":"ed"}{}"#,
        r#"{"alg":"EdDSA","kid":"ed",}"#,
        r#"{'alg':'EdDSA','kid':'ed'}"#,
        "\u{feff}{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
        r#""EdDSA""#,
        "null",
        "",
    ];
    let payload = claims().to_string();
    let sign = |text: &str| Attempt::bearer(format!("{text:?}"), keyring.sign_text(Signer::Ed, text, &payload));
    let accepted = vec![sign(r#"{"alg":"EdDSA","kid":"ed"}"#), sign("{\n \"kid\": \"ed\", \"alg\": \"EdDSA\"\n}")];
    Family { name: "the header's JSON", refused: texts.iter().map(|text| sign(text)).collect(), accepted }
}
