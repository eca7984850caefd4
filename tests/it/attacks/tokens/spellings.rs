//! Other spellings of the same bytes: what is signed is the text, so each could be another token to a cache or a log.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE},
};
use serde_json::json;

use super::{
    Attempt, Family,
    keyring::{Keyring, Signer, claims, encode, header},
};

pub fn families(keyring: &Keyring) -> Vec<Family> {
    vec![base64(keyring), lengths(keyring)]
}

fn base64(keyring: &Keyring) -> Family {
    // Of lengths that need padding, and claims whose letters differ between the alphabets.
    let head = to_be_padded(r#"{"alg":"EdDSA","kid":"ed"}"#);
    let mut claims = claims();
    claims["x"] = json!("???>>>~~~ÿÿÿ");
    let claims = to_be_padded(&claims.to_string());
    assert!(STANDARD.encode(&claims).contains(['+', '/']));
    let sign = |head: &str, payload: &str| keyring.sign_parts(Signer::Ed, head, payload);
    let good = sign(&encode(&head), &encode(&claims));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    // The last letter of 64 bytes holds four bits that mean nothing.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let leftover = format!("{signed}.{}{next}", &signature[..signature.len() - 1]);
    let broken = |at: usize, with: &str| format!("{}{with}{}", &good[..at], &good[at..]);
    let refused = vec![
        Attempt::bearer("a padded header", sign(&URL_SAFE.encode(&head), &encode(&claims))),
        Attempt::bearer("padded claims", sign(&encode(&head), &URL_SAFE.encode(&claims))),
        Attempt::bearer("a padded signature", format!("{good}==")),
        Attempt::bearer("the other alphabet", sign(&encode(&head), &STANDARD_NO_PAD.encode(&claims))),
        Attempt::bearer("the other alphabet, padded", sign(&STANDARD.encode(&head), &STANDARD.encode(&claims))),
        Attempt::bearer("bits left over in the signature", leftover),
        Attempt::bearer("a space in the header", broken(5, " ")),
        Attempt::bearer("a tab in the claims", broken(60, "\t")),
        Attempt::bearer("a space in the signature", broken(good.len() - 5, " ")),
        Attempt::bearer("a percent escape", good.replacen('.', "%2E", 1)),
        Attempt::bearer("a full stop of another script", good.replacen('.', "。", 1)),
        Attempt::bearer("a dot before", format!(".{good}")),
        Attempt::bearer("a dot after", format!("{good}.")),
        Attempt::bearer("quoted", format!("\"{good}\"")),
        Attempt::bearer("in angle brackets", format!("<{good}>")),
        Attempt::bearer("a semicolon after", format!("{good};")),
        Attempt::bearer("hex", "7b22616c67223a226e6f6e65227d.7b7d."),
    ];
    Family { name: "base64url", refused, accepted: vec![Attempt::bearer("the one spelling", &good)] }
}

fn to_be_padded(json: &str) -> String {
    format!("{json}{}", " ".repeat((4 - json.len() % 3) % 3))
}

fn lengths(keyring: &Keyring) -> Family {
    let with = |filler: usize| {
        let mut claims = claims();
        claims["filler"] = json!("x".repeat(filler));
        keyring.sign_text(Signer::Ed, &header().to_string(), &claims.to_string())
    };
    let refused = vec![
        Attempt::bearer("longer than any token", with(6_000)),
        Attempt::bearer("a good token and many letters", format!("{}{}", keyring.good(), "A".repeat(10_000))),
        Attempt::bearer("many dots", ".".repeat(8_000)),
        Attempt::bearer("deep JSON", encode("[".repeat(5_000)) + ".e30.AA"),
        Attempt::bearer("one letter", "x"),
        Attempt::bearer("three letters", "a.b.c"),
    ];
    Family { name: "length", refused, accepted: vec![Attempt::bearer("long", with(5_500))] }
}
