//! What an upstream may do to a single call.

use futures::future::join_all;
use serde_json::json;

use super::{Upstream, app, hurried, outcome, request, story};

const BODY_LIMIT: usize = 256 * 1024;

#[tokio::test]
async fn whatever_an_upstream_does_a_read_ends_and_says_how() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let thrice = |reason: &str| {
        vec!["requested".to_owned(), format!("retried: {reason}"), format!("retried: {reason}"), "failed".to_owned()]
    };
    let cases = [
        ("/hang", "urn:toolgate:tool:timeout", thrice("timeout")),
        ("/drip", "urn:toolgate:tool:timeout", thrice("timeout")),
        ("/reset", "urn:toolgate:tool:upstream", thrice("connection_lost")),
        ("/no-http", "urn:toolgate:tool:upstream", thrice("connection_lost")),
    ];
    join_all(cases.iter().map(async |(path, kind, expected)| {
        // Each for a tenant of its own, so that no breaker of another case has a say.
        let client = app.admin();
        let call = outcome(&client, &hurried("GET", &upstream.url(path), 500)).await;
        assert_eq!(call["error"]["type"], *kind, "{path}: {call}");
        assert_eq!(call["attempts"], 3, "{path}: {call}");
        assert_eq!(story(&client, &call).await, *expected, "{path}");
        assert_eq!(upstream.seen(&format!("GET {path}")), 3, "{path}");
    }))
    .await;
}

#[tokio::test]
async fn what_is_too_much_is_cut_off_and_what_is_no_json_is_text() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let client = app.admin();
    for path in ["/bomb", "/flood"] {
        let call = outcome(&client, &request("GET", &upstream.url(path))).await;
        assert_eq!(call["status"], "succeeded", "{path}");
        assert_eq!(call["result"]["truncated"], true, "{path}");
        assert_eq!(call["result"]["body"].as_str().unwrap().len(), BODY_LIMIT, "{path}");
    }
    let call = outcome(&client, &request("GET", &upstream.url("/no-json"))).await;
    assert_eq!((&call["result"]["body"], &call["attempts"]), (&json!("{\"cut"), &json!(1)), "{call}");
}

#[tokio::test]
async fn a_read_that_fails_for_a_moment_succeeds_and_the_log_says_why_it_took_so_long() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let client = app.admin();
    let call = outcome(&client, &request("GET", &upstream.url("/flaky/2"))).await;
    assert_eq!(
        (&call["status"], &call["result"]["body"], &call["attempts"]),
        (&json!("succeeded"), &json!("at last"), &json!(3))
    );
    let expected = ["requested", "retried: connection_lost", "retried: connection_lost", "succeeded"];
    assert_eq!(story(&client, &call).await, expected);
    // One failure more than there are attempts.
    let call = outcome(&client, &request("GET", &upstream.url("/flaky/3"))).await;
    assert_eq!((&call["status"], &call["attempts"]), (&json!("failed"), &json!(3)), "{call}");
}

#[tokio::test]
async fn an_effect_that_may_have_happened_is_unknown_and_not_repeated() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    let client = app.admin();
    for path in ["/hang", "/reset", "/no-http"] {
        let call = outcome(&client, &hurried("POST", &upstream.url(path), 500)).await;
        assert_eq!(call["status"], "failed", "{path}: {call}");
        assert_eq!(call["error"]["type"], "urn:toolgate:tool:outcome-unknown", "{path}: {call}");
        assert_eq!(story(&client, &call).await, ["requested", "started", "failed"], "{path}");
        assert_eq!(upstream.seen(&format!("POST {path}")), 1, "{path}");
    }
}

#[tokio::test]
async fn an_effect_that_cannot_have_happened_is_tried_again() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |_| ()).await;
    upstream.die();
    let client = app.admin();
    let call = outcome(&client, &request("POST", &upstream.url("/order"))).await;
    assert_eq!(call["error"]["type"], "urn:toolgate:tool:upstream", "{call}");
    let expected = ["requested", "started", "retried: not_connected", "retried: not_connected", "failed"];
    assert_eq!(story(&client, &call).await, expected);
}
