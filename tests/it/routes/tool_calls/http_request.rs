//! `http.request`, to a server of the test's own.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::Uri, response::Redirect, routing::any, routing::get};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::app::{TestApp, send};

/// What arrived, in order.
type Seen = Arc<Mutex<Vec<(Uri, HeaderMap, Bytes)>>>;

struct Upstream {
    port: u16,
    seen: Seen,
}

impl Upstream {
    async fn start() -> Self {
        let seen = Seen::default();
        let record = |State(seen): State<Seen>, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            seen.lock().unwrap().push((uri, headers, body.clone()));
            body
        };
        let router = Router::new()
            .route("/inside", get(|| async { Redirect::temporary("http://169.254.169.254/latest/meta-data/") }))
            .route("/bytes", get(|| async { [0u8, 159, 146, 150] }))
            .route("/cookie", get(|| async { ([("set-cookie", "s=1"), ("x-own", "o")], "") }))
            .fallback(any(record))
            .with_state(Arc::clone(&seen));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// An application that may reach it, and nobody else but `further`.
    async fn app(&self, further: &str) -> TestApp {
        let allowed = vec![format!("127.0.0.1:{}", self.port), further.to_owned()];
        TestApp::start_with(|settings| {
            settings.egress_allow = allowed;
            settings.egress_private_networks = vec!["127.0.0.0/8".to_owned()];
        })
        .await
    }
}

fn call(arguments: &Value) -> Value {
    json!({"tool": "http.request", "arguments": arguments})
}

#[tokio::test]
async fn a_request_goes_out_and_its_answer_is_the_result() {
    let upstream = Upstream::start().await;
    let app = upstream.app("169.254.169.254").await;
    let client = app.admin();
    let arguments = json!({
        "method": "POST", "url": upstream.url("/orders?x=1"), "headers": {"x-api-key": "mine"}, "json": {"item": "tea"},
    });
    let answer = client.call_and_wait("k", &call(&arguments)).await;
    let outcome = answer.json();
    assert_eq!(outcome["status"], "succeeded", "{outcome}");
    let result = &outcome["result"];
    assert_eq!((&result["status"], &result["body"]), (&json!(200), &json!(r#"{"item":"tea"}"#)), "{result}");
    assert_eq!((&result["base64"], &result["truncated"]), (&json!(false), &json!(false)), "{result}");
    let seen = upstream.seen.lock().unwrap().clone();
    let [(uri, headers, body)] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((uri.to_string().as_str(), body.as_ref()), ("/orders?x=1", br#"{"item":"tea"}"#.as_slice()));
    assert_eq!(headers["idempotency-key"], answer.call_id().to_string());
    // Nothing but what the caller said and what the request itself needs.
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected =
        ["accept", "accept-encoding", "content-length", "content-type", "host", "idempotency-key", "user-agent", "x-api-key"];
    assert_eq!(names, expected);
    // The same key is the same call: nothing is sent again.
    assert_eq!(client.call_and_wait("k", &call(&arguments)).await.json()["result"], *result);
    assert_eq!(upstream.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn bytes_are_encoded_and_cookies_are_not_recorded() {
    let upstream = Upstream::start().await;
    let app = upstream.app("169.254.169.254").await;
    let client = app.admin();
    let bytes = client.result_of("http.request", json!({"method": "GET", "url": upstream.url("/bytes")})).await;
    assert_eq!((&bytes["body"], &bytes["base64"]), (&json!("AJ+Slg=="), &json!(true)), "{bytes}");
    let cookie = client.result_of("http.request", json!({"method": "GET", "url": upstream.url("/cookie")})).await;
    assert_eq!((&cookie["headers"]["x-own"], &cookie["headers"]["set-cookie"]), (&json!("o"), &Value::Null), "{cookie}");
}

#[tokio::test]
async fn what_may_not_leave_is_a_failed_call_that_names_the_rule() {
    let upstream = Upstream::start().await;
    let app = upstream.app("169.254.169.254").await;
    let client = app.admin();
    let refused = [
        ("https://evil.example/", "allow-list"),
        ("http://169.254.169.254/latest/meta-data/", "network"),
        // Resolved by this machine, to a network that is open, at a port that is not.
        (&format!("http://localhost:{}/", upstream.port), "allow-list"),
        (&upstream.url("/inside"), "network"),
        (&format!("http://127.0.0.1:{}@evil.example/", upstream.port), "userinfo"),
        ("file:///etc/passwd", "scheme"),
    ];
    for (number, (url, rule)) in refused.iter().enumerate() {
        let outcome = client.call_and_wait(&format!("k{number}"), &call(&json!({"method": "GET", "url": url}))).await.json();
        assert_eq!(outcome["status"], "failed", "{url}: {outcome}");
        assert_eq!(outcome["error"]["type"], "urn:toolgate:tool:egress-blocked", "{url}: {outcome}");
        let detail = outcome["error"]["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("(rule: {rule})")), "{url}: {detail}");
        assert!(!detail.chars().any(|c| c.is_ascii_digit()), "{url}: {detail}");
    }
    assert_eq!(upstream.seen.lock().unwrap().len(), 0);
    let metrics = send(client.anonymous(Method::GET, "/metrics")).await.text();
    let counted = format!("violations_total{{kind=\"egress_blocked\",tool=\"http.request\"}} {}", refused.len());
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_a_failed_call() {
    let upstream = Upstream::start().await;
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let app = upstream.app(&format!("localhost:{closed}")).await;
    let body = call(&json!({"method": "GET", "url": format!("http://localhost:{closed}/")}));
    let outcome = app.admin().call_and_wait("k", &body).await.json();
    assert_eq!(outcome["error"]["type"], "urn:toolgate:tool:upstream", "{outcome}");
    let outcome =
        app.admin().call_and_wait("l", &call(&json!({"method": "GET", "url": upstream.url("/"), "body": "x"}))).await.json();
    assert_eq!(outcome["error"]["type"], "urn:toolgate:tool:invalid-arguments", "{outcome}");
}

#[tokio::test]
async fn a_request_that_holds_its_own_token_is_400_and_leaves_nothing() {
    let upstream = Upstream::start().await;
    let app = upstream.app("169.254.169.254").await;
    let client = app.admin();
    let header =
        json!({"method": "GET", "url": upstream.url("/"), "headers": {"authorization": format!("Bearer {}", client.token)}});
    let problem = client.call("k", &call(&header)).await.problem(400, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/arguments/headers/authorization", "{problem}");
    let mut session = call(&json!({"method": "GET", "url": upstream.url("/")}));
    session["session_id"] = json!(client.token);
    let problem = client.call("k", &session).await.problem(400, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/session_id", "{problem}");
    assert!(!problem.to_string().contains(&client.token));
    let problem = client.call(&client.token, &call(&json!({"method": "GET", "url": upstream.url("/")}))).await;
    problem.problem(400, "invalid");
    super::post_refused::assert_nothing_happened(&app).await;
    assert_eq!(upstream.seen.lock().unwrap().len(), 0);
    // Another's token is the caller's to send.
    let foreign = json!({"method": "GET", "url": upstream.url("/"), "headers": {"authorization": "Bearer another-service"}});
    assert_eq!(client.call_and_wait("k", &call(&foreign)).await.json()["status"], "succeeded");
    assert_eq!(upstream.seen.lock().unwrap()[0].1["authorization"], "Bearer another-service");
}
