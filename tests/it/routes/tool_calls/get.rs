//! `GET /v1/tool-calls/{call_id}`

use futures::{StreamExt, stream};
use uuid::Uuid;

use crate::app::{TestApp, task, task_titled};

#[tokio::test]
async fn a_call_that_was_just_accepted_is_never_404() {
    let app = TestApp::start().await;
    let client = app.admin();
    let answers = stream::iter(0..40).map(|number| {
        let client = client.clone();
        async move {
            let accepted = client.call(&format!("k{number}"), &task()).await;
            assert_eq!(accepted.status, 202, "{accepted:?}");
            client.get(accepted.header("location")).await
        }
    });
    let answers: Vec<_> = answers.buffer_unordered(8).collect().await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json()["position"].is_string());
    }
}

#[tokio::test]
async fn the_projected_call_says_what_the_answer_said() {
    let app = TestApp::start().await;
    let client = app.admin();
    let answered = client.call_and_wait("k", &task()).await.json();
    let mut projected = client.get_projected(&answered).await;
    // The command side knows a position only where it waited for the projection.
    let position = projected.as_object_mut().unwrap().remove("position").unwrap();
    assert_eq!(position, "2", "requested, succeeded");
    let mut answered = answered;
    answered.as_object_mut().unwrap().remove("position");
    assert_eq!(projected, answered);
}

#[tokio::test]
async fn min_position_waits_until_the_projection_has_come_that_far() {
    let app = TestApp::start().await;
    let client = app.admin();
    let first = client.call_and_wait("first", &task()).await.json();
    let path = format!("/v1/tool-calls/{}", first["call_id"].as_str().unwrap());
    let reached = client.get(&format!("{path}?min_position=2")).await;
    assert_eq!(reached.json()["status"], "succeeded", "{}", reached.text());
    // Position 4 is written by the second call only: the answer comes after it, not before.
    let (late_path, second) = (format!("{path}?min_position=4"), task_titled("two"));
    let (late, _) = tokio::join!(client.get(&late_path), client.call_and_wait("second", &second));
    assert_eq!(late.status, 200, "{}", late.text());
    assert!(client.audit().await.len() >= 4);
}

#[tokio::test]
async fn a_position_that_does_not_come_is_503_after_the_promised_ten_seconds() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await;
    let began = std::time::Instant::now();
    let answer = client.get(&format!("/v1/tool-calls/{}?min_position=999999", call.call_id())).await;
    answer.problem(503, "unavailable");
    assert_ne!(answer.header("retry-after"), "");
    assert!((10..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_no_id_is_404_and_what_is_no_parameter_400() {
    let app = TestApp::start().await;
    let client = app.admin();
    let id = Uuid::from_u128(1);
    for path in [format!("{id}"), "x".to_owned(), id.simple().to_string(), format!("{{{id}}}"), "%00".to_owned()] {
        client.get(&format!("/v1/tool-calls/{path}")).await.problem(404, "not-found");
    }
    for query in ["min_position=-1", "min_position=x", "unknown=1"] {
        client.get(&format!("/v1/tool-calls/{id}?{query}")).await.problem(400, "invalid");
    }
}
