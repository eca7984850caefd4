//! What the claims say, but for times.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Attempt, Family,
    keyring::{Keyring, Signer, claims, claims_but, header},
};

pub fn families(keyring: &Keyring) -> Vec<Family> {
    vec![issuers(keyring), audiences(keyring), subjects(keyring), tenants(keyring), grants(keyring), ids(keyring), json(keyring)]
}

/// One claim with many values; null takes it away.
fn family(keyring: &Keyring, name: &'static str, refused: Vec<(&str, Value)>, accepted: Vec<(&str, Value)>) -> Family {
    let attempts = |values: Vec<(&str, Value)>| {
        let attempt = |(what, value)| Attempt::bearer(what, keyring.with_claims(&claims_but(&[(name, value)])));
        values.into_iter().map(attempt).collect()
    };
    Family { name, refused: attempts(refused), accepted: attempts(accepted) }
}

fn issuers(keyring: &Keyring) -> Family {
    let refused = vec![
        ("none", Value::Null),
        ("empty", json!("")),
        ("another", json!("https://attacker.example")),
        ("in an array", json!(["toolgate-dev"])),
        ("in an array beside another", json!(["https://attacker.example", "toolgate-dev"])),
        ("an object", json!({"toolgate-dev": true})),
        ("a number", json!(0)),
        ("with a slash", json!("toolgate-dev/")),
        ("with a space", json!("toolgate-dev ")),
        ("in capitals", json!("TOOLGATE-DEV")),
        ("its beginning", json!("toolgate")),
        ("with a NUL", json!("toolgate-dev\0")),
    ];
    family(keyring, "iss", refused, vec![("the right one", json!("toolgate-dev"))])
}

fn audiences(keyring: &Keyring) -> Family {
    let refused = vec![
        ("none", Value::Null),
        ("empty", json!("")),
        ("another", json!("other")),
        ("an empty array", json!([])),
        ("others", json!(["other", "another"])),
        ("ours beside a number", json!(["toolgate", 1])),
        ("ours beside null", json!(["toolgate", null])),
        ("ours in an array in an array", json!([["toolgate"]])),
        ("an object", json!({"toolgate": true})),
        ("ours in a list in a text", json!("other,toolgate")),
        ("ours after a space", json!("other toolgate")),
        ("a pattern", json!("*")),
        ("in capitals", json!("Toolgate")),
        ("true", json!(true)),
        ("too many", json!(vec!["toolgate"; 65])),
    ];
    let accepted = vec![
        ("ours", json!("toolgate")),
        ("ours in an array", json!(["toolgate"])),
        ("ours among others", json!(["other", "toolgate"])),
        ("as many as may be", json!(vec!["toolgate"; 64])),
    ];
    family(keyring, "aud", refused, accepted)
}

fn subjects(keyring: &Keyring) -> Family {
    let refused = vec![
        ("none", Value::Null),
        ("empty", json!("")),
        ("a number", json!(1)),
        ("an array", json!(["tester"])),
        ("with a NUL", json!("tester\0")),
        ("with a line feed", json!("tester\nadmin")),
        ("with a DEL", json!("tester\u{7f}")),
        ("with a C1 control", json!("tester\u{85}")),
        ("too long", json!("x".repeat(256))),
    ];
    family(keyring, "sub", refused, vec![("the longest", json!("x".repeat(255))), ("another script", json!("пользователь"))])
}

fn tenants(keyring: &Keyring) -> Family {
    let id = Uuid::from_u128(0xfeed);
    let refused = vec![
        ("none", Value::Null),
        ("empty", json!("")),
        ("a name", json!("acme")),
        ("a number", json!(7)),
        ("in an array", json!([id])),
        ("two in an array", json!([id, Uuid::from_u128(2)])),
        ("an object", json!({"id": id})),
        ("without hyphens", json!(id.simple().to_string())),
        ("in braces", json!(id.braced().to_string())),
        ("a URN", json!(id.urn().to_string())),
        ("with a space", json!(format!("{id} "))),
        ("with a NUL", json!(format!("{id}\0"))),
        ("two in a text", json!(format!("{id},{}", Uuid::from_u128(2)))),
        ("cut short", json!(&id.to_string()[..35])),
        ("with no hex digit", json!(id.to_string().replacen('0', "g", 1))),
        ("with its hyphens elsewhere", json!("0000000-00000-0000-0000-00000000feed")),
        ("any", json!("*")),
    ];
    let accepted = vec![("one uuid", json!(id)), ("in capitals", json!(id.to_string().to_uppercase()))];
    family(keyring, "tenant_id", refused, accepted)
}

fn grants(keyring: &Keyring) -> Family {
    let refused = [
        ("a role that is no array", json!({"roles": "admin"})),
        ("roles in an object", json!({"roles": {"admin": true}})),
        ("a role that is a number", json!({"roles": ["admin", 1]})),
        ("a role in an array", json!({"roles": [["admin"]]})),
        ("a role with a NUL", json!({"roles": ["admin\0"]})),
        ("a role that is too long", json!({"roles": ["r".repeat(129)]})),
        ("too many roles", json!({"roles": vec!["admin"; 65]})),
        ("permissions in a text", json!({"permissions": "tool:list"})),
        ("a permission that is null", json!({"permissions": [null]})),
        ("a permission with a line feed", json!({"permissions": ["tool:list\n"]})),
        ("too many permissions", json!({"permissions": vec!["tool:list"; 65]})),
    ];
    let accepted = [
        ("as many roles as may be", json!({"roles": vec!["admin"; 64]})),
        ("a role that nobody knows beside one", json!({"roles": ["admin", "r".repeat(128)]})),
    ];
    Family { name: "roles and permissions", refused: merged(keyring, refused), accepted: merged(keyring, accepted) }
}

fn ids(keyring: &Keyring) -> Family {
    let refused = [
        ("a jti that is a number", json!({"jti": 1})),
        ("a jti that is empty", json!({"jti": ""})),
        ("a jti with a NUL", json!({"jti": "a\0"})),
        ("a jti in an array", json!({"jti": ["a"]})),
        ("a jti that is too long", json!({"jti": "j".repeat(129)})),
        ("a session that is empty", json!({"session_id": ""})),
        ("a session that is a number", json!({"session_id": 1})),
        ("a session that is too long", json!({"session_id": "s".repeat(129)})),
    ];
    let accepted = [
        ("the longest jti", json!({"jti": "j".repeat(128)})),
        ("the longest session", json!({"session_id": "s".repeat(128)})),
        ("a claim nobody knows", json!({"scope": {"a": [1, "b"]}})),
    ];
    Family { name: "ids", refused: merged(keyring, refused), accepted: merged(keyring, accepted) }
}

fn merged<const N: usize>(keyring: &Keyring, cases: [(&str, Value); N]) -> Vec<Attempt> {
    let attempt = |(what, changes): (&str, Value)| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Attempt::bearer(what, keyring.with_claims(&claims))
    };
    cases.map(attempt).into()
}

fn json(keyring: &Keyring) -> Family {
    let good = claims().to_string();
    let before = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
    let after = |member: &str| format!("{},{member}}}", &good[..good.len() - 1]);
    let refused = [
        ("another subject before", before(r#""sub":"mallory""#)),
        ("another subject after", after(r#""sub":"mallory""#)),
        ("another tenant after", after(&format!(r#""tenant_id":"{}""#, Uuid::from_u128(2)))),
        ("another tenant, escaped", after(&format!(r#""tenant\u005fid":"{}""#, Uuid::from_u128(2)))),
        ("another end after", after(r#""exp":9999999999"#)),
        ("more roles after", after(r#""roles":["admin"]"#)),
        ("an unknown claim twice", after(r#""x":1,"x":1"#)),
        ("an array", format!("[{good}]")),
        ("a text", format!("{good:?}")),
        ("nothing", String::new()),
        ("null", "null".to_owned()),
        ("more than one", format!("{good}{good}")),
        ("a comma too many", after("")),
        ("a comment", format!("{good}/* */")),
        ("a lone surrogate", after(r#""x":"\ud800""#)),
        ("a raw control character", after("\"x\":\"\u{1}\"")),
        ("a byte order mark", format!("\u{feff}{good}")),
    ];
    let sign = |text: &str| keyring.sign_text(Signer::Ed, &header().to_string(), text);
    let mut refused: Vec<_> = refused.iter().map(|(what, text)| Attempt::bearer(*what, sign(text))).collect();
    let latin1: Vec<u8> = after(r#""x":"é""#).chars().map(|letter| letter as u8).collect();
    let part = super::keyring::encode(latin1);
    let head = super::keyring::encode(header().to_string());
    refused.push(Attempt::bearer("another charset", keyring.sign_parts(Signer::Ed, &head, &part)));
    let accepted = vec![
        Attempt::bearer("an unknown claim once", sign(&after(r#""x":1"#))),
        Attempt::bearer("whitespace around", sign(&format!(" {good}\n"))),
        Attempt::bearer("a pair of surrogates", sign(&after(r#""x":"\ud83d\ude00""#))),
    ];
    Family { name: "the claims' JSON", refused, accepted }
}
