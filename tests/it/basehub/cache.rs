use reqwest::Method;
use serde_json::{Value, json};

use super::server::{BaseHub, Mood, TOKEN};
use crate::app::{Client, TestApp, eventually, send};

const SECRET: &str = "canary-webhook-secret";

async fn name(client: &Client, options: Value) -> Value {
    let key = toolgate_store::Clock::system().new_id().to_string();
    let body = json!({"tool": "basehub.query", "arguments": {"query": "{ site { name } }"}, "options": options});
    client.call_and_wait(&key, &body).await.json()
}

async fn app(basehub: &BaseHub) -> TestApp {
    basehub.app_with(TOKEN, &[], |settings| settings.basehub_webhook_secret = Some(SECRET.to_owned().into())).await
}

fn renamed(name: &str) -> Mood {
    Mood::Bytes(json!({"data": {"site": {"name": name}}}).to_string().into_bytes())
}

#[tokio::test]
async fn what_was_read_answers_until_the_webhook_says_that_it_has_changed() {
    let basehub = BaseHub::start().await;
    let app = app(&basehub).await;
    let (client, other) = (app.admin(), app.admin());
    assert_eq!(name(&client, json!({})).await["cached"], false);
    basehub.is(renamed("Warung"));
    let kept = name(&client, json!({})).await;
    assert_eq!((&kept["cached"], &kept["result"]["data"]["site"]["name"]), (&json!(true), &json!("Kedai")), "{kept}");
    let theirs = name(&other, json!({})).await;
    assert_eq!((&theirs["cached"], &theirs["result"]["data"]["site"]["name"]), (&json!(false), &json!("Warung")), "{theirs}");
    basehub.is(renamed("Toko"));
    let body = "{}";
    let webhook = client.anonymous(Method::POST, "/v1/webhooks/basehub").header("content-type", "application/json").body(body);
    let signature = crate::routes::webhooks::basehub::signature(body.as_bytes());
    assert_eq!(send(webhook.header("x-basehub-webhook-signature", signature)).await.status, 204);
    // It is told to all workers, and concerns all tenants.
    for client in [&client, &other] {
        eventually("the worker hears it", async || {
            let read = name(client, json!({})).await;
            (read["result"]["data"]["site"]["name"] == "Toko").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn only_what_is_whole_is_kept_and_answers_while_basehub_is_down() {
    let basehub = BaseHub::start().await;
    let app = app(&basehub).await;
    let client = app.admin();
    let partial = json!({"tool": "basehub.query", "arguments": {"query": "{ site { name broken } }"}});
    for key in ["a", "b"] {
        let read = client.call_and_wait(key, &partial).await.json();
        assert_eq!(read["cached"], false, "what is not whole is not kept: {read}");
    }
    assert_eq!(name(&client, json!({})).await["cached"], false);
    basehub.is(Mood::Status(503));
    let news = name(&client, json!({"freshness_seconds": 0})).await;
    assert_eq!(news["error"]["type"], "urn:toolgate:tool:upstream", "{news}");
    let kept = name(&client, json!({})).await;
    assert_eq!((&kept["status"], &kept["cached"]), (&json!("succeeded"), &json!(true)), "{kept}");
}
