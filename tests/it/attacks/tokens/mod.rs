//! The census of attacks on tokens.

mod carriers;
mod claims;
mod dates;
mod forgeries;
mod headers;
mod keyring;
mod revocation;
mod rotation;
mod spellings;

use std::{collections::HashSet, path::PathBuf};

use reqwest::Method;
use serde_json::Value;

use self::keyring::Keyring;
use crate::app::{Answer, Client, Stack, Tenant, TestApp, send, task};

/// Attempts of one kind, and the honest requests that differ from them by as little as possible.
pub struct Family {
    name: &'static str,
    refused: Vec<Attempt>,
    accepted: Vec<Attempt>,
}

/// One request: what is in its address and its headers.
pub struct Attempt {
    name: String,
    query: String,
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Attempt {
    pub fn bearer(name: impl Into<String>, token: impl AsRef<str>) -> Self {
        Self::header(name, format!("Bearer {}", token.as_ref()))
    }

    pub fn header(name: impl Into<String>, authorization: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), query: String::new(), headers: vec![("authorization", authorization.into())] }
    }

    async fn send(&self, client: &Client, key: &str) -> Answer {
        let path = format!("/v1/tool-calls{}", self.query);
        let mut request = client.anonymous(Method::POST, &path).header("idempotency-key", key);
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_slice());
        }
        send(request.json(&task())).await
    }
}

/// An application that trusts these keys and no others, a caller without a token, and the file that the keys are in.
async fn app_trusting(jwks: &Value) -> (TestApp, Client, PathBuf) {
    let stack = Stack::new().await;
    let path = stack.data_dir.join(format!("jwks-{}.json", Tenant::new().0));
    std::fs::write(&path, jwks.to_string()).unwrap();
    let app = TestApp::on(stack, |settings| settings.jwks_file = Some(path.clone())).await;
    let client = Client::new(app.url(), Tenant::new(), String::new());
    (app, client, path)
}

async fn unauthenticated_so_far(client: &Client) -> f64 {
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    let sample = metrics.lines().find_map(|line| line.strip_prefix(r#"violations_total{kind="unauthenticated",tool=""} "#));
    sample.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn every_attack_is_refused_and_every_neighbour_accepted() {
    let keyring = Keyring::generate();
    let mut families = Vec::new();
    for of in [headers::families, claims::families, dates::families, forgeries::families, spellings::families, carriers::families]
    {
        families.extend(of(&keyring));
    }
    let vectors: usize = families.iter().map(|family| family.refused.len()).sum();
    assert!(vectors >= 150, "only {vectors} attacks");

    let (app, client, _) = app_trusting(&keyring.jwks()).await;
    let mut names = HashSet::new();
    for family in &families {
        assert!(!family.refused.is_empty() && !family.accepted.is_empty(), "{} proves nothing", family.name);
        for attempt in &family.refused {
            let what = format!("{}: {}", family.name, attempt.name);
            let before = unauthenticated_so_far(&client).await;
            let answer = attempt.send(&client, "refused").await;
            assert_eq!(answer.status, 401, "{what}: {}", answer.text());
            let has_token = attempt.headers.iter().any(|(name, _)| *name == "authorization");
            answer.problem(401, if has_token { "invalid-token" } else { "unauthenticated" });
            let challenge = answer.header("www-authenticate");
            assert!(challenge.starts_with(r#"Bearer realm="toolgate""#), "{what}: {challenge}");
            assert_eq!(challenge.contains("invalid_token"), has_token, "{what}: {challenge}");
            assert_eq!(unauthenticated_so_far(&client).await, before + 1.0, "{what} was not counted once");
            assert!(names.insert(what.clone()), "{what} is there twice");
        }
    }
    assert_eq!(app.stack.events_in_log().await, 0, "an event was appended");
    assert_eq!(app.stack.count("select count(*) from audit_event").await, 0);
    for family in &families {
        for (number, attempt) in family.accepted.iter().enumerate() {
            let answer = attempt.send(&client, &format!("accepted-{number}")).await;
            assert_eq!(answer.status, 202, "{}: {} is honest: {}", family.name, attempt.name, answer.text());
        }
    }
}
