use serde_json::{Value, json};

use super::{
    outcome,
    server::{BaseHub, Mood, TOKEN},
};
use crate::app::send;

fn posts() -> Value {
    json!({"blocks": {"list": "blog.posts"}})
}

#[track_caller]
fn assert_failed(outcome: &Value, kind: &str, words: &str) {
    assert_eq!(outcome["error"]["type"], format!("urn:toolgate:tool:{kind}"), "{outcome}");
    assert!(outcome["error"]["detail"].as_str().unwrap().contains(words), "{outcome}");
    assert!(!outcome.to_string().contains(TOKEN), "{outcome}");
}

#[tokio::test]
async fn what_basehub_refuses_is_a_failure_that_says_why() {
    let basehub = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[]).await;
    let client = app.admin();
    let unknown = outcome(&client, json!({"query": "{ site { secrets } }"})).await;
    assert_failed(&unknown, "invalid-arguments", "Cannot query field \"secrets\"");
    assert_failed(&outcome(&client, json!({"blocks": {"list": "site"}})).await, "invalid-arguments", "items");
    let partial = outcome(&client, json!({"query": "{ site { name broken } }"})).await;
    assert_eq!(partial["status"], "succeeded", "{partial}");
    assert_eq!(partial["result"]["data"], json!({"site": {"name": "Kedai", "broken": null}}));
    assert_eq!(partial["result"]["errors"], json!([{"message": "no access with Bearer [redacted]", "path": ["site", "broken"]}]));
    let many = json!({"errors": vec![json!({"message": "m".repeat(2_000)}); 100], "data": null});
    basehub.is(Mood::Bytes(many.to_string().into_bytes()));
    let bounded = outcome(&client, posts()).await;
    assert_failed(&bounded, "invalid-arguments", "mmm; mmm");
    assert!(bounded["error"]["detail"].as_str().unwrap().len() < 1_600);
}

#[tokio::test]
async fn what_would_change_something_is_not_sent() {
    let basehub = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[]).await;
    let client = app.admin();
    for query in ["mutation { a }", "query A { a } mutation B { b }", "subscription { a }", "{ a", "type A { b: Int }"] {
        let refused = outcome(&client, json!({"query": query})).await;
        assert_eq!(refused["error"]["type"], "urn:toolgate:tool:invalid-arguments", "{query}: {refused}");
    }
    assert_eq!(basehub.seen().len(), 0);
}

#[tokio::test]
async fn a_wrong_token_is_the_operators_to_mend() {
    let basehub = BaseHub::start().await;
    let app = basehub.app("bshb_pk_of_another_repository", &[]).await;
    assert_failed(&outcome(&app.admin(), posts()).await, "not-configured", "does not accept the token");
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_from_one_that_answers() {
    let basehub = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[]).await;
    let big = |bytes: usize| {
        let frame = r#"{"data":{"a":""}}"#.len();
        format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(bytes - frame)).into_bytes()
    };
    for (mood, kind, words) in [
        (Mood::Status(429), "upstream", "too many requests"),
        (Mood::Status(500), "upstream", "status 500"),
        (Mood::Status(503), "upstream", "status 503"),
        (Mood::Status(404), "upstream", "status 404"),
        (Mood::Status(403), "not-configured", "token"),
        (Mood::Bytes(b"{\"data\": {".to_vec()), "upstream", "not GraphQL"),
        (Mood::Bytes(b"{}".to_vec()), "upstream", "not GraphQL"),
        (Mood::Bytes(b"[]".to_vec()), "upstream", "not GraphQL"),
        (Mood::Bytes("[".repeat(100_000).into_bytes()), "upstream", "not GraphQL"),
        (Mood::Bytes(big(256 * 1024 + 1)), "invalid-arguments", "larger than 256 KiB"),
    ] {
        basehub.is(mood.clone());
        // Each time another tenant: failures of one open its breaker, and an answer to one is kept for it.
        let failed = outcome(&app.admin(), json!({"query": "{ a }"})).await;
        assert_failed(&failed, kind, words);
        assert!(!failed.to_string().contains("<html>"), "{failed}");
    }
    for bytes in [256 * 1024 - 1, 256 * 1024] {
        basehub.is(Mood::Bytes(big(bytes)));
        assert_eq!(outcome(&app.admin(), json!({"query": "{ a }"})).await["status"], "succeeded", "{bytes}");
    }
    basehub.is(Mood::Silent);
    let body = json!({"tool": "basehub.query", "arguments": {"query": "{ a }"}, "options": {"timeout_ms": 200}});
    assert_failed(&app.admin().call_and_wait("slow", &body).await.json(), "timeout", "200 ms");
}

#[tokio::test]
async fn the_token_goes_to_nobody_else() {
    let basehub = BaseHub::start().await;
    let elsewhere = BaseHub::start().await;
    let app = basehub.app(TOKEN, &[format!("127.0.0.1:{}", elsewhere.port)]).await;
    basehub.is(Mood::Redirect(elsewhere.url()));
    assert_failed(&outcome(&app.admin(), posts()).await, "not-configured", "token");
    let seen = elsewhere.seen();
    assert!(seen.len() == 1 && !seen[0].contains_key("authorization"), "{seen:?}");
    // And not at all where the host is not on the list.
    basehub.is(Mood::Redirect("http://127.0.0.2:1/".to_owned()));
    assert_failed(&outcome(&app.admin(), posts()).await, "egress-blocked", "allow-list");
    let metrics = send(app.admin().anonymous(reqwest::Method::GET, "/metrics")).await.text();
    assert!(metrics.contains("violations_total{kind=\"egress_blocked\",tool=\"basehub.query\"} 1"), "{metrics}");
}
