use serde_json::json;

use super::{erase, say, tables_with, verify};
use crate::app::{TestApp, send, task_titled};

#[tokio::test]
async fn what_is_about_one_data_subject_is_erased_and_nothing_else() {
    let app = TestApp::start().await;
    let client = app.admin();
    let about = async |key: &str, subject: &str, body: &serde_json::Value| {
        let request = client.request(reqwest::Method::POST, "/v1/tool-calls");
        let request = request.header("idempotency-key", key).header("prefer", "wait=30").header("data-subject", subject);
        send(request.json(body)).await
    };
    let artifact = say(&client, "amsel4411", Some("patient-7")).await;
    let kept = say(&client, "drossel5522", Some("patient-8")).await;
    say(&client, "finkaa66", None).await;
    assert_eq!(tables_with(&app.stack, "patient-7").await, [] as [&str; 0], "the id itself is kept nowhere");
    let body = task_titled("amsel4411 once more");
    let first = about("again", "patient-7", &body).await.json();
    assert_eq!(first["status"], "succeeded");
    client.get_projected(&first).await;

    erase(&app.stack, &client, &["--data-subject", "patient-7"]).await;

    assert_eq!(tables_with(&app.stack, "amsel4411").await, [] as [&str; 0]);
    assert_eq!(client.get(&format!("/v1/artifacts/{artifact}")).await.status, 404);
    let call = client.get(&format!("/v1/tool-calls/{}", first["call_id"].as_str().unwrap())).await.json();
    assert_eq!((&call["status"], &call["erased"], &call["result"]), (&json!("succeeded"), &json!(true), &json!(null)));
    let events = client.get(&format!("/v1/tool-calls/{}/events", first["call_id"].as_str().unwrap())).await.json();
    assert_eq!(events["items"][0]["data"]["arguments"], json!({}));
    assert_eq!(events["items"][0]["data"]["erased"], true);
    let export = client.get("/v1/audit/export").await.text();
    verify(&client, &export);
    let count = export.lines().count();
    let shown = [
        client.get("/v1/tool-calls?limit=500").await.text(),
        client.get("/v1/audit?limit=500&content=open").await.text(),
        format!("{:?}", client.events("?after=0", None).await.events(count).await),
    ];
    for text in &shown {
        assert!(!text.contains("amsel4411") && text.contains("drossel5522") && text.contains("finkaa66"), "{text}");
    }
    assert!(client.get(&format!("/v1/artifacts/{kept}")).await.text().contains("drossel5522"));

    // The same request finds its call, without its content; nothing new is recorded about them, and others go on.
    let replayed = about("again", "patient-7", &body).await;
    assert_eq!((replayed.status, replayed.header("idempotency-replayed")), (200, "true"), "{}", replayed.text());
    assert_eq!((&replayed.json()["erased"], &replayed.json()["result"]), (&json!(true), &json!(null)));
    about("new", "patient-7", &body).await.problem(409, "conflict");
    about("again", "patient-8", &body).await.problem(422, "idempotency-mismatch");
    assert_eq!(about("new", "patient-8", &body).await.status, 200);
    assert_eq!(client.call_and_wait("plain", &body).await.status, 200);
    about("bad", &"x".repeat(129), &body).await.problem(400, "invalid");
}
