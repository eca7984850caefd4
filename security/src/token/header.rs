use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::{TokenError, members::Members};
use crate::keys::MAX_KEY_ID_LENGTH;

/// What a token's header says, once it says nothing that this service would have to understand and does not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub algorithm: Algorithm,
    pub key_id: String,
}

/// Members that change what the payload is or how it is read.
const REFUSED: [&str; 5] = ["crit", "b64", "zip", "enc", "cty"];

impl Header {
    /// Keys that a header brings along or points to (`jwk`, `jku`, `x5c`, `x5u`) are not looked at: only the key set counts.
    pub(super) fn read(Members(mut members): Members) -> Result<Self, TokenError> {
        if REFUSED.iter().any(|name| members.contains_key(*name)) {
            return Err(TokenError::Header("it has a member that changes what the payload means"));
        }
        match members.get("typ") {
            None => {}
            Some(Value::String(name)) if is_access_token(name) => {}
            Some(_) => return Err(TokenError::Header("its typ is not JWT or at+jwt")),
        }
        let algorithm = match members.get("alg").and_then(Value::as_str) {
            Some("EdDSA") => Algorithm::EdDSA,
            Some("ES256") => Algorithm::ES256,
            Some("RS256") => Algorithm::RS256,
            _ => return Err(TokenError::Header("its alg is not EdDSA, ES256 or RS256")),
        };
        match members.remove("kid") {
            Some(Value::String(key_id)) if (1..=MAX_KEY_ID_LENGTH).contains(&key_id.len()) => Ok(Self { algorithm, key_id }),
            _ => Err(TokenError::Header("its kid is not a string of 1 to 256 bytes")),
        }
    }
}

/// Other types of token are no access tokens, whoever signed them (RFC 8725, section 3.11; RFC 9068, section 2.1). `application/`
/// may be left out (RFC 7515, section 4.1.9).
fn is_access_token(name: &str) -> bool {
    let prefix = "application/";
    let short = match name.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => &name[prefix.len()..],
        _ => name,
    };
    short.eq_ignore_ascii_case("jwt") || short.eq_ignore_ascii_case("at+jwt")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(changes: &[(&str, Value)]) -> Result<Header, TokenError> {
        let mut members = json!({"alg": "EdDSA", "kid": "k"});
        for (name, value) in changes {
            members[*name] = value.clone();
        }
        Header::read(serde_json::from_value(members).unwrap())
    }

    #[test]
    fn algorithm_and_key_are_named_exactly() {
        for (name, algorithm) in [("EdDSA", Algorithm::EdDSA), ("ES256", Algorithm::ES256), ("RS256", Algorithm::RS256)] {
            let header = Header { algorithm, key_id: "k".to_owned() };
            assert_eq!(read(&[("alg", json!(name))]).unwrap(), header);
        }
        for alg in [json!("none"), json!("eddsa"), json!("HS256"), json!("PS256"), json!("ES384"), json!(["EdDSA"]), Value::Null]
        {
            assert!(matches!(read(&[("alg", alg.clone())]), Err(TokenError::Header(_))), "{alg}");
        }
        for kid in [json!(""), json!("k".repeat(257)), json!(["k"]), json!(1), Value::Null] {
            assert!(matches!(read(&[("kid", kid.clone())]), Err(TokenError::Header(_))), "{kid}");
        }
        assert_eq!(read(&[("kid", json!("k".repeat(256)))]).unwrap().key_id.len(), 256);
    }

    #[test]
    fn members_that_change_the_payload_are_refused_and_others_ignored() {
        for name in ["crit", "b64", "zip", "enc", "cty"] {
            assert!(matches!(read(&[(name, Value::Null)]), Err(TokenError::Header(_))), "{name}");
        }
        for name in ["jku", "jwk", "x5u", "x5c", "x5t", "unheard-of"] {
            assert!(read(&[(name, json!("https://example.org"))]).is_ok(), "{name}");
        }
    }

    #[test]
    fn only_access_tokens_are_accepted() {
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
            assert!(read(&[("typ", json!(typ))]).is_ok(), "{typ}");
        }
        for typ in
            [json!("JOSE"), json!("dpop+jwt"), json!("application/"), json!("text/jwt"), json!(""), json!(["JWT"]), Value::Null]
        {
            assert!(matches!(read(&[("typ", typ.clone())]), Err(TokenError::Header(_))), "{typ}");
        }
    }
}
