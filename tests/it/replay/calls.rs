use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    app::TestApp,
    mcp::{self, upstream::Upstream},
    replay::{projected, replay},
};

/// Answers every request alike, and counts them.
async fn counting_server() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let _head = stream.read(&mut [0; 4096]).await;
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await);
            drop(stream.shutdown().await);
        }
    });
    (port, count)
}

/// The outside hears nothing of a replay, and the log gets nothing from it.
#[tokio::test]
async fn a_replay_runs_no_tool() {
    let (port, requests) = counting_server().await;
    let upstream = Upstream::new(&json!({"tools": [mcp::tool("say", "Says it.")]}));
    let listening = upstream.listen().await;
    let allowed = format!("http://localhost:{port}");
    let app = TestApp::start_with(|settings| {
        mcp::configure(settings, &[("up", listening.http())]);
        settings.egress_allow = vec![allowed];
        settings.egress_private_networks.push("::1/128".to_owned());
    })
    .await;
    let client = app.admin();
    mcp::offered(&client, "mcp.up.say").await;
    client.call_and_wait("mcp", &mcp::call("mcp.up.say")).await;
    for number in 0..3 {
        let arguments = json!({"method": "GET", "url": format!("http://localhost:{port}/{number}")});
        let answer = client.call_and_wait(&number.to_string(), &json!({"tool": "http.request", "arguments": arguments})).await;
        assert_eq!(answer.json()["status"], "succeeded", "{}", answer.text());
    }
    projected(&app.stack).await;
    let happened =
        async || (requests.load(Ordering::Relaxed), upstream.seen("tools/call").len(), app.stack.events_in_log().await);
    let before = happened().await;
    assert_eq!((before.0, before.1), (3, 1));
    let tenant = client.tenant.0.to_string();
    for arguments in [&["--check"][..], &["--check", "--from", "audit"], &["--switch"], &["--tenant", &tenant]] {
        replay(&app.stack, arguments).await.succeeded();
    }
    assert_eq!(happened().await, before);
}
