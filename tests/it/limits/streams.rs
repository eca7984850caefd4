//! Event streams and exports open at the same time, and what they hold.

use reqwest::Method;

use crate::app::{Answer, Child, Client, Role, Sse, Stack, Tenant, TestApp, Token, send, wait_until};

fn admin(stack: &Stack, api: &Child) -> Client {
    let tenant = Tenant::new();
    Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()))
}

/// An open stream, whose greeting has been read.
async fn open(client: &Client, query: &str) -> Sse {
    let mut stream = client.events(query, None).await;
    stream.frame().await.unwrap();
    stream
}

/// Asks for a stream that must not be opened.
async fn refused(client: &Client, path: &str) -> Answer {
    let response = client.request(Method::GET, path).send().await.unwrap();
    assert!(!response.status().is_success(), "{response:?}");
    Answer::of(response).await
}

#[tokio::test]
async fn streams_have_three_quarters_of_the_connections_and_a_tenant_a_quarter() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::QueryApi, &[("TOOLGATE_MAX_CONNECTIONS", "8")]).await;
    let [one, two, three, four] = [(); 4].map(|()| admin(&stack, &api));
    let mut held = vec![open(&one, "").await, open(&one, "").await];
    for path in ["/v1/events", "/v1/audit/export"] {
        let refused = refused(&one, path).await;
        refused.problem(429, "rate-limited");
        assert_eq!(refused.header("retry-after"), "1");
    }
    held.extend([open(&two, "").await, open(&two, "").await, open(&three, "").await]);
    // The last of all, and one more.
    held.push(open(&four, "").await);
    let refused = refused(&four, "/v1/events").await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(four.get("/v1/tool-calls").await.status, 200, "a request finds a connection");
    held.remove(0);
    let another = async || four.request(Method::GET, "/v1/events").send().await.unwrap();
    wait_until("who hangs up gives the place back", async || another().await.status() == 200).await;
}

#[tokio::test]
async fn an_export_gives_its_place_back_at_its_end() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::QueryApi, &[("TOOLGATE_MAX_CONNECTIONS", "4")]).await;
    let client = admin(&stack, &api);
    for _ in 0..3 {
        wait_until("the only place is free again", async || client.get("/v1/audit/export").await.status == 200).await;
    }
    let _held = open(&client, "").await;
    send(client.request(Method::GET, "/v1/audit/export")).await.problem(429, "rate-limited");
}

#[tokio::test]
async fn a_page_cut_for_its_bytes_loses_nothing_that_follows() {
    let app = TestApp::start().await;
    let client = app.admin();
    // Several pages by their bytes, and not one by their rows.
    app.stack.insert_large_events(client.tenant, 40, 128 * 1024).await;
    for query in ["?after=0", "?after=0&type=large"] {
        let events = client.events(query, None).await.events(40).await;
        let positions: Vec<_> = events.iter().map(|event| event.position()).collect();
        assert_eq!(positions, (1..=40).collect::<Vec<_>>(), "{query}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stream_that_is_not_read_holds_little_of_a_history_of_large_events() {
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let client = admin(&stack, &api);
    stack.insert_large_events(client.tenant, 200, 256 * 1024).await;
    let mut streams = vec![client.events("?after=0", None).await];
    streams[0].event().await.unwrap();
    let before = api.resident_bytes();
    for _ in 0..6 {
        let mut stream = client.events("?after=0", None).await;
        // Its first page has been read.
        stream.event().await.unwrap();
        streams.push(stream);
    }
    let each = api.resident_bytes().saturating_sub(before) / 6;
    assert!(each < 10 * 1024 * 1024, "{each} bytes a stream");
}
