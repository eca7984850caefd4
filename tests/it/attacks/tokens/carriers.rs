//! Where the token is.

use super::{Attempt, Family, keyring::Keyring};

pub fn families(keyring: &Keyring) -> Vec<Family> {
    vec![schemes(keyring), elsewhere(keyring)]
}

fn schemes(keyring: &Keyring) -> Family {
    let token = keyring.good();
    let several = |name: &str, values: [String; 2]| {
        let headers = values.map(|value| ("authorization", value.into_bytes())).into();
        Attempt { name: name.to_owned(), query: String::new(), headers }
    };
    let refused = vec![
        Attempt::header("nothing", ""),
        Attempt::header("the scheme alone", "Bearer"),
        Attempt::header("the scheme and a space", "Bearer "),
        Attempt::header("the token alone", token.clone()),
        Attempt::header("Basic", "Basic dTpw"),
        Attempt::header("Basic with the token", format!("Basic {token}")),
        Attempt::header("DPoP with the token", format!("DPoP {token}")),
        Attempt::header("Token with the token", format!("Token {token}")),
        Attempt::header("no space", format!("Bearer{token}")),
        Attempt::header("a tab", format!("Bearer\t{token}")),
        Attempt::header("a colon", format!("Bearer: {token}")),
        Attempt::header("two spaces", format!("Bearer  {token}")),
        Attempt::header("the scheme twice", format!("Bearer Bearer {token}")),
        Attempt::header("the token twice", format!("Bearer {token} {token}")),
        Attempt::header("two tokens with a comma", format!("Bearer {token},{token}")),
        Attempt::header("two values with a comma", format!("Bearer {token}, Bearer {token}")),
        Attempt::header("a parameter after", format!("Bearer {token}, realm=x")),
        Attempt::header("a parameter before", format!("Bearer token={token}")),
        Attempt::header("bytes that are no ASCII", [b"Bearer ", token.as_bytes(), &[0xff]].concat()),
        Attempt::header("a space of another script", format!("Bearer\u{a0}{token}")),
        several("two headers alike", [format!("Bearer {token}"), format!("Bearer {token}")]),
        several("a good header and a bad one", [format!("Bearer {token}"), "Bearer x".to_owned()]),
        several("a bad header and a good one", ["Bearer x".to_owned(), format!("Bearer {token}")]),
        several("Basic and Bearer", ["Basic dTpw".to_owned(), format!("Bearer {token}")]),
        several("nothing and Bearer", [String::new(), format!("Bearer {token}")]),
    ];
    let accepted = vec![
        Attempt::header("Bearer", format!("Bearer {token}")),
        Attempt::header("another case", format!("bearer {token}")),
        Attempt::header("capitals", format!("BEARER {token}")),
    ];
    Family { name: "Authorization", refused, accepted }
}

/// Addresses end up in logs, and browsers send cookies unasked.
fn elsewhere(keyring: &Keyring) -> Family {
    let token = keyring.good();
    let query = |name: &str| Attempt { name: format!("?{name}="), query: format!("?{name}={token}"), headers: Vec::new() };
    let header = |name: &'static str, value: String| Attempt {
        name: name.to_owned(),
        query: String::new(),
        headers: vec![(name, value.into_bytes())],
    };
    let refused = vec![
        Attempt { name: "nowhere".to_owned(), query: String::new(), headers: Vec::new() },
        query("access_token"),
        query("token"),
        query("authorization"),
        query("jwt"),
        header("cookie", format!("access_token={token}; Authorization=Bearer {token}")),
        header("proxy-authorization", format!("Bearer {token}")),
        header("x-authorization", format!("Bearer {token}")),
        header("x-access-token", token.clone()),
        header("x-forwarded-authorization", format!("Bearer {token}")),
        header("x-api-key", token.clone()),
        header("sec-websocket-protocol", format!("bearer, {token}")),
    ];
    let beside = |name: &'static str| {
        let headers = vec![("authorization", format!("Bearer {token}").into_bytes()), (name, b"x".to_vec())];
        Attempt { name: format!("Authorization beside {name}"), query: String::new(), headers }
    };
    Family { name: "elsewhere", refused, accepted: vec![beside("cookie"), beside("proxy-authorization")] }
}
