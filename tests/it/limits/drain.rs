//! SIGTERM: nothing new begins, and what has begun is finished.

use tokio::net::TcpStream;

use crate::app::{Child, Client, Role, Stack, Tenant, Token, send, task, wait_until};

#[tokio::test]
async fn a_request_under_way_is_answered_and_a_new_connection_refused() {
    let stack = Stack::new().await;
    let mut api = Child::start(&stack, Role::CommandApi, &[]).await;
    let tenant = Tenant::new();
    let client = Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let request = client.request(reqwest::Method::POST, "/v1/tool-calls").header("prefer", "wait=2");
    let waiting = tokio::spawn(send(request.header("idempotency-key", "k").json(&task())));
    wait_until("the call is accepted", async || stack.events_in_log().await == 1).await;
    api.terminate().await;
    let address = api.url().replace("http://", "");
    wait_until("nobody listens any more", async || TcpStream::connect(&address).await.is_err()).await;
    assert!(!waiting.is_finished(), "the listener closes before the last answer");
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.header("preference-applied"), "wait=2");
    assert!(api.ended().await.success());
}
