//! A database that does not answer delays a stream, and does not end it.

use crate::app::{Child, Client, Role, Stack, Tenant, Token};

#[tokio::test]
async fn a_stream_whose_place_is_known_begins_without_the_database_and_goes_on_with_it() {
    let (stack, mut services) = Stack::private(false).await;
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let tenant = Tenant::new();
    let client = Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    stack.insert_large_events(tenant, 2, 10).await;
    let postgres = services.postgres_mut().unwrap();
    postgres.kill().await;
    let mut stream = client.events("", Some("1")).await;
    assert_eq!(stream.frame().await.unwrap().id.as_deref(), Some("1"));
    // Where "now" is, only the database can say.
    client.get("/v1/events").await.problem(503, "unavailable");
    postgres.restart().await.unwrap();
    assert_eq!(stream.event().await.unwrap().position(), 2);
}
