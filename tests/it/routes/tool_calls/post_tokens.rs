//! `POST /v1/tool-calls`: who is let in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};
use toolgate::{dev_issuer::DevIssuer, services::DataDir};

use super::post_refused::assert_nothing_happened;
use crate::app::{Answer, Tenant, TestApp, Token, send, task};

async fn post_with(app: &TestApp, authorization: &[String]) -> Answer {
    let client = app.admin();
    let mut request = client.anonymous(Method::POST, "/v1/tool-calls").header("idempotency-key", "k");
    for value in authorization {
        request = request.header("authorization", value);
    }
    send(request.json(&task())).await
}

fn assert_refused(answer: &Answer, kind: &str) {
    answer.problem(401, kind);
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
}

#[tokio::test]
async fn without_exactly_one_bearer_token_it_is_401() {
    let app = TestApp::start().await;
    let token = Token::of(Tenant::new(), "admin").sign(app.stack.issuer());
    assert_refused(&post_with(&app, &[]).await, "unauthenticated");
    let twice = [format!("Bearer {token}"), format!("Bearer {token}")];
    assert_refused(&post_with(&app, &twice).await, "invalid-token");
    for value in ["Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Basic dTpw", &token, &format!("Bearer {token} {token}")] {
        assert_refused(&post_with(&app, &[value.to_owned()]).await, "invalid-token");
    }
    // A token anywhere else is not looked at: addresses end up in logs.
    let in_address = app.admin().anonymous(Method::GET, &format!("/v1/tasks?access_token={token}"));
    assert_refused(&send(in_address).await, "unauthenticated");
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_token_whose_claims_do_not_fit_is_401() {
    let app = TestApp::start().await;
    let valid = || Token::of(Tenant::new(), "admin");
    let now = toolgate_store::Clock::system().now().timestamp();
    let tokens = [
        ("expired", valid().expires_in(-31)),
        ("no exp", valid().claim("exp", Value::Null)),
        ("not yet valid", valid().claim("nbf", json!(now + 60))),
        ("from the future", valid().claim("iat", json!(now + 60))),
        ("no iat", valid().claim("iat", Value::Null)),
        ("wrong aud", valid().claim("aud", json!("other"))),
        ("wrong auds", valid().claim("aud", json!(["other", "another"]))),
        ("no aud", valid().claim("aud", Value::Null)),
        ("wrong iss", valid().claim("iss", json!("other"))),
        ("no iss", valid().claim("iss", Value::Null)),
        ("no sub", valid().claim("sub", Value::Null)),
        ("empty sub", valid().claim("sub", json!(""))),
        ("no tenant", valid().claim("tenant_id", Value::Null)),
        ("a tenant that is no uuid", valid().claim("tenant_id", json!("acme"))),
        ("two tenants", valid().claim("tenant_id", json!([Tenant::new().0, Tenant::new().0]))),
    ];
    for (what, token) in tokens {
        let answer = post_with(&app, &[format!("Bearer {}", token.sign(app.stack.issuer()))]).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert_refused(&answer, "invalid-token");
    }
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn an_audience_among_others_and_an_end_within_the_leeway_are_fine() {
    let app = TestApp::start().await;
    let tokens = [
        Token::of(Tenant::new(), "admin").claim("aud", json!(["other", "toolgate"])),
        Token::of(Tenant::new(), "admin").expires_in(-20),
    ];
    for token in tokens {
        let answer = post_with(&app, &[format!("bearer {}", token.sign(app.stack.issuer()))]).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_token_nobody_trusted_has_signed_is_401() {
    let app = TestApp::start().await;
    let token = Token::of(Tenant::new(), "admin").sign(app.stack.issuer());
    let [header, claims, signature] = <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let jwks = serde_json::to_value(app.stack.issuer().jwks()).unwrap();
    let (kid, x) = (&jwks["keys"][0]["kid"], jwks["keys"][0]["x"].as_str().unwrap());

    // The public key taken for a shared secret, in every spelling an attacker has of it.
    let claims_json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let by_secret = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.as_str().unwrap().to_owned());
        encode(&header, &claims_json, &EncodingKey::from_secret(secret)).unwrap()
    };
    let stranger_dir = DataDir::temporary().unwrap();
    let stranger = DevIssuer::load_or_create(stranger_dir.path()).unwrap();
    let other = Token::of(Tenant::new(), "admin").sign(&stranger);
    let [_, other_claims, other_signature] = <[&str; 3]>::try_from(other.split('.').collect::<Vec<_>>()).unwrap();

    let none = part(json!({"alg": "none", "kid": kid}));
    let no_kid = part(json!({"alg": "EdDSA"}));
    let forged = [
        ("alg none, no signature", format!("{none}.{claims}.")),
        ("alg none", format!("{none}.{claims}.{signature}")),
        ("no kid", format!("{no_kid}.{claims}.{signature}")),
        ("HS256 with the public key's bytes", by_secret(&URL_SAFE_NO_PAD.decode(x).unwrap())),
        ("HS256 with the public key's text", by_secret(x.as_bytes())),
        ("a stranger's key", other.clone()),
        ("a stranger's signature under our key id", format!("{header}.{other_claims}.{other_signature}")),
        ("changed claims", format!("{header}.{other_claims}.{signature}")),
        ("no signature", format!("{header}.{claims}.")),
        ("longer than any token", format!("{token}{}", "A".repeat(10_000))),
    ];
    for (what, token) in forged {
        let answer = post_with(&app, &[format!("Bearer {token}")]).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert_refused(&answer, "invalid-token");
    }
    assert_nothing_happened(&app).await;
}
