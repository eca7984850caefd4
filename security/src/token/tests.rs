use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::KeySource;

const NOW: i64 = 1_800_000_000;

/// A key pair and a verifier that trusts it.
struct Issuer {
    pair: Ed25519KeyPair,
    verifier: TokenVerifier,
    revocations: Arc<Revocations>,
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn pair() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

fn jwks(kid: &str, pair: &Ed25519KeyPair) -> String {
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}]}).to_string()
}

impl Issuer {
    async fn new() -> Self {
        let pair = pair();
        let source = KeySource::Fixed(jwks("k", &pair));
        Self::with(pair, source).await
    }

    async fn with(pair: Ed25519KeyPair, source: KeySource) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let keys = Keys::open(source, &mut prometheus_client::registry::Registry::default()).await.unwrap();
        let revocations = Arc::new(Revocations::default());
        revocations.confirm(Instant::now());
        let verifier = TokenVerifier::new(keys, Arc::clone(&revocations), "issuer", "toolgate");
        Self { pair, verifier, revocations }
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    fn token(&self) -> String {
        self.sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims().to_string())
    }

    async fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        self.verifier.verify(token, at(NOW)).await
    }
}

fn claims() -> Value {
    json!({
        "iss": "issuer", "aud": "toolgate", "sub": "alice", "tenant_id": Uuid::from_u128(7), "iat": NOW, "exp": NOW + 60, "jti": "j",
    })
}

#[tokio::test]
async fn a_signed_token_is_its_principal() {
    let issuer = Issuer::new().await;
    let principal = issuer.verify(&issuer.token()).await.unwrap();
    assert_eq!((principal.subject.as_str(), principal.key_id.as_str()), ("alice", "k"));
    let shown = format!("{:?}", issuer.verifier);
    assert!(shown.contains("issuer") && shown.contains("toolgate"), "{shown}");
}

#[tokio::test]
async fn the_parts_are_spelled_in_one_way() {
    let issuer = Issuer::new().await;
    let token = issuer.token();
    let [header, payload, signature] = <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
    let padded = |part: &str| format!("{part}{}", "=".repeat((4 - part.len() % 4) % 4));
    for malformed in [
        String::new(),
        "..".to_owned(),
        format!("{header}.{payload}"),
        format!(".{payload}.{signature}"),
        format!("{token}.{signature}"),
        format!("{header}.{payload}.{payload}.{signature}"),
        format!("{}.{payload}.{signature}", padded(&URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"k" }"#))),
        format!(" {token}"),
    ] {
        let verified = issuer.verify(&malformed).await;
        assert!(matches!(verified, Err(TokenError::Malformed)), "{malformed}: {verified:?}");
    }
    for altered in [
        format!("{header}..{signature}"),
        format!("{token}="),
        format!("{token}A"),
        format!("{header}.{payload}."),
        format!("{token} "),
    ] {
        assert!(matches!(issuer.verify(&altered).await, Err(TokenError::Signature)), "{altered}");
    }
    assert!(issuer.verify(&token).await.is_ok());
}

#[tokio::test]
async fn json_that_means_two_things_is_refused() {
    let issuer = Issuer::new().await;
    let (header, payload) = (r#"{"alg":"EdDSA","kid":"k"}"#, claims().to_string());
    for header in [r#"{"alg":"EdDSA","kid":"k","kid":"k"}"#, "[]", "null", "", r#"{"alg":"EdDSA","kid":"k"} {}"#] {
        assert!(matches!(issuer.verify(&issuer.sign(header, &payload)).await, Err(TokenError::Malformed)), "{header}");
    }
    let twice = payload.replacen('{', r#"{"sub":"mallory","#, 1);
    let infinite = payload.replacen(&(NOW + 60).to_string(), "1e400", 1);
    for payload in [twice, infinite, "{}}".to_owned(), "\u{feff}{}".to_owned()] {
        assert!(matches!(issuer.verify(&issuer.sign(header, &payload)).await, Err(TokenError::Malformed)), "{payload}");
    }
    assert!(issuer.verify(&issuer.sign(header, &payload)).await.is_ok());
}

#[tokio::test]
async fn a_signature_counts_under_its_own_key_and_algorithm() {
    let issuer = Issuer::new().await;
    let payload = claims().to_string();
    let verify = async |header: &str| issuer.verify(&issuer.sign(header, &payload)).await;
    assert!(matches!(verify(r#"{"alg":"ES256","kid":"k"}"#).await, Err(TokenError::WrongAlgorithm)));
    assert!(matches!(verify(r#"{"alg":"EdDSA","kid":"other"}"#).await, Err(TokenError::UnknownKey)));
    assert!(matches!(verify(r#"{"alg":"none","kid":"k"}"#).await, Err(TokenError::Header(_))));
    let stranger = Issuer::new().await;
    assert!(matches!(issuer.verify(&stranger.token()).await, Err(TokenError::Signature)));
}

#[tokio::test]
async fn a_token_has_at_most_eight_kibibytes() {
    let issuer = Issuer::new().await;
    let length_with = |filler: usize| {
        let mut claims = claims();
        claims["filler"] = json!("x".repeat(filler));
        issuer.sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims.to_string())
    };
    let longest = (5_000..6_200).map(length_with).rfind(|token| token.len() <= 8_192).unwrap();
    assert!(longest.len() > 8_188, "{}", longest.len());
    assert!(issuer.verify(&longest).await.is_ok());
    for (length, too_long) in [(8_192, false), (8_193, true)] {
        let verified = issuer.verify(&"x".repeat(length)).await;
        assert_eq!(matches!(verified, Err(TokenError::TooLong)), too_long, "{length}");
    }
}

#[tokio::test]
async fn a_remembered_token_ends_like_any_other() {
    let issuer = Issuer::new().await;
    let token = issuer.token();
    for (seconds, current) in [(0, true), (89, true), (90, false), (91, false)] {
        let verified = issuer.verifier.verify(&token, at(NOW + seconds)).await;
        assert_eq!(verified.is_ok(), current, "{seconds}: {verified:?}");
    }
    assert_eq!(issuer.verifier.verified.get(&<[u8; 32]>::from(Sha256::digest(&token))).map(|_| ()), None);
}

#[tokio::test]
async fn a_remembered_token_is_revoked_like_any_other() {
    let issuer = Issuer::new().await;
    let token = issuer.token();
    let principal = issuer.verify(&token).await.unwrap();
    assert!(issuer.verifier.recheck(&principal).is_ok());
    issuer.revocations.revoke_token(Revocations::digest("j"), None);
    assert!(matches!(issuer.verify(&token).await, Err(TokenError::Revoked)));
    assert!(matches!(issuer.verifier.recheck(&principal), Err(TokenError::Revoked)));
}

#[tokio::test]
async fn changed_keys_make_a_remembered_token_a_stranger() {
    let directory = std::env::temp_dir().join(format!("toolgate-token-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("jwks.json");
    let first = pair();
    std::fs::write(&path, jwks("k", &first)).unwrap();
    let issuer = Issuer::with(first, KeySource::File(path.clone())).await;
    let token = issuer.token();
    let principal = issuer.verify(&token).await.unwrap();
    // The same id with another key, which an unknown key makes the verifier see.
    std::fs::write(&path, jwks("k", &pair())).unwrap();
    let unknown = issuer.sign(r#"{"alg":"EdDSA","kid":"unknown"}"#, &claims().to_string());
    assert!(matches!(issuer.verify(&unknown).await, Err(TokenError::UnknownKey)));
    assert!(matches!(issuer.verify(&token).await, Err(TokenError::Signature)));
    assert!(issuer.verifier.recheck(&principal).is_ok(), "the id is still there");
    std::fs::write(&path, jwks("another", &pair())).unwrap();
    let reread = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        let following = tokio::spawn(issuer.verifier.keys.clone().follow());
        while issuer.verifier.recheck(&principal).is_ok() {
            looks.tick().await;
        }
        following.abort();
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), reread).await.unwrap();
    assert!(matches!(issuer.verifier.recheck(&principal), Err(TokenError::UnknownKey)));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn without_keys_nobody_is_at_fault() {
    // The port of nobody: nothing answers.
    let source = KeySource::Url { url: "http://127.0.0.1:1/jwks.json".to_owned(), every: std::time::Duration::from_secs(300) };
    let issuer = Issuer::with(pair(), source).await;
    assert!(matches!(issuer.verify(&issuer.token()).await, Err(TokenError::NoKeys)));
    assert!(issuer.verifier.readiness().unwrap_err().contains("keys"));
    assert!(Issuer::new().await.verifier.readiness().is_ok());
}
