use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// The principal of claims that are good but for these; null stands for null, not for absence.
fn read(changes: &[(&str, Value)]) -> Result<Principal, TokenError> {
    let mut claims = json!({
        "iss": "issuer", "aud": "toolgate", "sub": "alice", "tenant_id": Uuid::from_u128(7),
        "iat": NOW, "exp": NOW + 60, "roles": ["agent"], "permissions": ["tool:list"], "session_id": "s", "jti": "j",
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    let expected = Expected { issuer: "issuer".to_owned(), audience: "toolgate".to_owned() };
    principal(serde_json::from_value(claims).unwrap(), "k".to_owned(), &expected, at(NOW))
}

fn without(name: &str) -> Result<Principal, TokenError> {
    let mut claims = json!({"iss": "i", "aud": "a", "sub": "s", "tenant_id": Uuid::from_u128(7), "iat": NOW, "exp": NOW + 60});
    claims.as_object_mut().unwrap().remove(name);
    let expected = Expected { issuer: "i".to_owned(), audience: "a".to_owned() };
    principal(serde_json::from_value(claims).unwrap(), "k".to_owned(), &expected, at(NOW))
}

#[test]
fn a_principal_is_what_the_claims_say() {
    let principal = read(&[]).unwrap();
    assert_eq!(principal.tenant_id, TenantId(Uuid::from_u128(7)));
    assert_eq!((principal.subject.as_str(), principal.key_id.as_str()), ("alice", "k"));
    assert_eq!((principal.roles, principal.permissions), (vec!["agent".to_owned()], vec!["tool:list".to_owned()]));
    assert_eq!((principal.session_id.as_deref(), principal.token_id.as_deref()), (Some("s"), Some("j")));
    assert_eq!((principal.issued_at, principal.expires_at), (at(NOW), at(NOW + 60)));
}

#[test]
fn what_is_required_must_be_there_and_the_rest_need_not() {
    let principal = without("nothing").unwrap();
    assert_eq!((principal.roles.len(), principal.permissions.len()), (0, 0));
    assert_eq!((principal.session_id, principal.token_id), (None, None));
    for name in ["iss", "aud", "sub", "tenant_id", "iat", "exp"] {
        assert!(matches!(without(name), Err(TokenError::Claims(_))), "{name}");
    }
}

#[test]
fn every_claim_has_one_type() {
    let refused = [
        ("iss", vec![json!("other"), json!(["issuer"]), json!("issuer "), json!("Issuer"), json!({"issuer": 1})]),
        ("aud", vec![json!("other"), json!([]), json!([["toolgate"]]), json!(["toolgate", 1]), json!({"toolgate": 1}), json!(1)]),
        ("aud", vec![json!("toolgate,other"), json!("TOOLGATE"), json!(vec!["toolgate"; 65])]),
        ("sub", vec![json!(""), json!(1), json!(["alice"]), json!("a\0b"), json!("a\u{7f}"), json!("x".repeat(256))]),
        ("tenant_id", vec![json!(""), json!(1), json!("acme"), json!([Uuid::from_u128(7)]), json!({"id": Uuid::from_u128(7)})]),
        ("roles", vec![json!("agent"), json!({"agent": true}), json!(["agent", 1]), json!(["agent", "a\0"]), json!([["agent"]])]),
        ("permissions", vec![json!("tool:list"), json!(["a\nb"]), json!([null])]),
        ("session_id", vec![json!(""), json!(1), json!("a\0b"), json!(["s"])]),
        ("jti", vec![json!(""), json!(1), json!("a\0b"), json!(["j"])]),
        ("exp", vec![json!("4000000000"), json!(true), json!([NOW + 60]), json!({})]),
        ("iat", vec![json!("1"), json!(true), json!([NOW])]),
        ("nbf", vec![json!("1"), json!(true), json!([NOW])]),
    ];
    for (name, values) in refused {
        for value in values {
            let read = read(&[(name, value.clone())]);
            assert!(matches!(read, Err(TokenError::Claims(_))), "{name} {value}: {read:?}");
        }
    }
    for name in ["iss", "aud", "sub", "tenant_id", "iat", "exp", "nbf", "roles", "permissions", "jti"] {
        assert!(matches!(read(&[(name, Value::Null)]), Err(TokenError::Claims(_))), "{name}");
    }
    assert_eq!(read(&[("session_id", Value::Null)]).unwrap().session_id, None);
}

#[test]
fn a_tenant_is_one_uuid_with_hyphens() {
    let id = Uuid::from_u128(0xabcd);
    for spelling in
        [id.simple().to_string(), id.braced().to_string(), id.urn().to_string(), format!(" {id}"), format!("{id},{id}")]
    {
        assert!(matches!(read(&[("tenant_id", json!(spelling))]), Err(TokenError::Claims(_))), "{spelling}");
    }
    for spelling in [id.to_string(), id.to_string().to_uppercase()] {
        assert_eq!(read(&[("tenant_id", json!(spelling))]).unwrap().tenant_id, TenantId(id));
    }
}

#[test]
fn lengths_are_bounded_exactly() {
    let (name, too_long) = ("é".repeat(128), "é".repeat(129));
    for (claim, longest, longer) in [
        ("roles", json!([name]), json!([too_long])),
        ("roles", json!(vec!["agent"; 64]), json!(vec!["agent"; 65])),
        ("permissions", json!([name]), json!([too_long])),
        ("permissions", json!(vec!["tool:list"; 64]), json!(vec!["tool:list"; 65])),
        ("aud", json!(vec!["toolgate"; 64]), json!(vec!["toolgate"; 65])),
        ("session_id", json!(name), json!(too_long)),
        ("jti", json!(name), json!(too_long)),
        ("sub", json!("x".repeat(255)), json!("x".repeat(256))),
    ] {
        assert!(read(&[(claim, longest)]).is_ok(), "{claim}");
        assert!(matches!(read(&[(claim, longer)]), Err(TokenError::Claims(_))), "{claim}");
    }
    assert!(read(&[("aud", json!(["other", "toolgate"]))]).is_ok());
    assert!(read(&[("permissions", json!([]))]).is_ok());
}

#[test]
fn the_leeway_is_thirty_seconds_to_the_second() {
    for (end, current) in [(NOW - 31, false), (NOW - 30, false), (NOW - 29, true)] {
        assert_eq!(read(&[("exp", json!(end))]).is_ok(), current, "{end}");
    }
    assert!(matches!(read(&[("exp", json!(NOW - 30))]), Err(TokenError::Expired)));
    for (start, started) in [(NOW + 29, true), (NOW + 30, true), (NOW + 31, false)] {
        assert_eq!(read(&[("nbf", json!(start))]).is_ok(), started, "{start}");
        assert_eq!(read(&[("iat", json!(start))]).is_ok(), started, "{start}");
    }
    assert!(matches!(read(&[("nbf", json!(NOW + 31))]), Err(TokenError::NotYetValid)));
    assert!(matches!(read(&[("iat", json!(NOW + 31))]), Err(TokenError::Claims("iat lies in the future"))));
}

#[test]
fn dates_may_have_fractions() {
    let principal = read(&[("exp", json!(NOW as f64 + 60.75)), ("iat", json!(NOW as f64 + 30.5))]).unwrap();
    assert_eq!((principal.expires_at, principal.issued_at), (at(NOW + 60), at(NOW + 30)));
    assert!(read(&[("iat", json!(NOW as f64 + 31.5))]).is_err());
}

#[test]
fn dates_lie_within_the_calendar() {
    let last = DateTime::<Utc>::MAX_UTC.timestamp();
    assert_eq!(read(&[("exp", json!(last))]).unwrap().expires_at.timestamp(), last);
    for end in [json!(last + 1), json!(i64::MAX), json!(u64::MAX), json!(1e300)] {
        for name in ["exp", "iat", "nbf"] {
            assert!(matches!(read(&[(name, end.clone())]), Err(TokenError::Claims(_))), "{name} {end}");
        }
    }
    for name in ["exp", "iat", "nbf"] {
        for before in [json!(-1), json!(-0.5), json!(i64::MIN), json!(-1e300)] {
            assert!(matches!(read(&[(name, before.clone())]), Err(TokenError::Claims(_))), "{name} {before}");
        }
    }
    assert!(read(&[("iat", json!(0)), ("nbf", json!(0))]).is_ok());
    assert!(matches!(read(&[("exp", json!(0))]), Err(TokenError::Expired)));
}
