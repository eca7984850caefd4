use crate::{
    app::{Client, TestApp, send, task_titled},
    archive::{archiver, now, with_history},
    erasure::{erase, say},
    replay::{projected, replay},
};

async fn equal(app: &TestApp) {
    projected(&app.stack).await;
    for arguments in [&["--check"][..], &["--check", "--batch", "3"], &["--check", "--from", "audit"]] {
        replay(&app.stack, arguments).await.succeeded();
    }
}

async fn about(client: &Client, key: &str, subject: &str) {
    let request = client.request(reqwest::Method::POST, "/v1/tool-calls");
    let request = request.header("idempotency-key", key).header("prefer", "wait=30").header("data-subject", subject);
    assert_eq!(send(request.json(&task_titled(key))).await.status, 200);
}

/// What is made anew cannot be opened any more, and what is live was made when it could.
#[tokio::test]
async fn what_is_made_anew_is_what_is_live_after_a_tenant_is_erased() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let other = app.admin();
    say(&client, "amsel4411", None).await;
    say(&client, "drossel5522", Some("patient-7")).await;
    say(&other, "finkaa66", None).await;
    archiver(&app.stack).await.archive(client.tenant.id(), now()).await.unwrap();
    equal(&app).await;
    erase(&app.stack, &client, &[]).await;
    equal(&app).await;
    // The other has what it had.
    replay(&app.stack, &["--switch"]).await.succeeded();
    assert!(other.get("/v1/tasks").await.text().contains("finkaa66"));
    erase(&app.stack, &other, &[]).await;
    equal(&app).await;
}

#[tokio::test]
async fn what_is_made_anew_is_what_is_live_after_a_data_subject_is_erased() {
    let app = TestApp::start().await;
    let client = app.admin();
    say(&client, "amsel4411", Some("patient-7")).await;
    about(&client, "drossel5522", "patient-8").await;
    client.call_and_wait("plain", &task_titled("finkaa66")).await;
    projected(&app.stack).await;
    erase(&app.stack, &client, &["--data-subject", "patient-7"]).await;
    equal(&app).await;
    about(&client, "more", "patient-8").await;
    archiver(&app.stack).await.archive(client.tenant.id(), now()).await.unwrap();
    erase(&app.stack, &client, &["--data-subject", "patient-8"]).await;
    equal(&app).await;
    assert!(client.get("/v1/tasks").await.text().contains("finkaa66"));
    replay(&app.stack, &["--switch"]).await.succeeded();
    equal(&app).await;
}
