//! Up to where an answer was read, and waiting until that is far enough, on every route that reads what is projected.

use futures::future::join_all;

use crate::{
    app::{Answer, TestApp, send, task, task_titled},
    census::table::{Furniture, ROUTES, Route, Sight},
};

/// Event streams carry a position in every frame; contracts of tools are not projected.
fn reads() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.verb == "GET" && ![Sight::Events, Sight::Nobodys].contains(&route.sight))
}

fn position(answer: &Answer) -> u64 {
    answer.header("toolgate-position").parse().unwrap()
}

#[tokio::test]
async fn every_read_says_its_position_and_waits_for_the_one_asked_for() {
    let app = TestApp::start().await;
    let client = app.admin();
    let furniture = Furniture::make(&client).await;
    let newest = client.audit().await.len() as u64;
    assert!(reads().count() >= 11);
    for route in reads() {
        let path = furniture.fill(route.path);
        let answer = client.get(&path).await;
        assert_eq!((answer.status, position(&answer)), (200, newest), "{path}");
        assert_eq!(position(&client.get(&format!("{path}?min_position={newest}")).await), newest, "{path}");
        for bad in ["-1", "x", "1.5", "", "18446744073709551616"] {
            let problem = client.get(&format!("{path}?min_position={bad}")).await.problem(400, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], "min_position", "{path} {bad:?}");
        }
    }
    // The next call is two events; nobody is answered before the second of them.
    let waiting = join_all(reads().map(|route| {
        let (client, path) = (client.clone(), furniture.fill(route.path));
        async move { (client.get(&format!("{path}?min_position={}", newest + 2)).await, path) }
    }));
    let body = task_titled("next");
    let (answers, _) = tokio::join!(waiting, client.call_and_wait("next", &body));
    for (answer, path) in answers {
        assert_eq!((answer.status, position(&answer)), (200, newest + 2), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_is_not_read_takes_no_position() {
    let app = TestApp::start().await;
    let client = app.admin();
    for path in ["/v1/events", "/v1/sessions/s/events", "/v1/tools", "/v1/tools/task.create"] {
        let problem = client.get(&format!("{path}?min_position=1")).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "min_position", "{path}");
    }
}

#[tokio::test]
async fn a_position_never_claims_more_than_was_read() {
    let app = TestApp::start().await;
    let client = app.admin();
    let calls = async {
        for number in 0..40 {
            assert_eq!(client.call(&format!("k{number}"), &task()).await.status, 202);
        }
    };
    let looks = async {
        let mut looks = Vec::new();
        while looks.last().is_none_or(|(position, _)| *position < 20) {
            let answer = client.get("/v1/sessions").await;
            assert_eq!(answer.json()["items"], serde_json::json!([]), "these calls name no session");
            let audit = client.get("/v1/audit?limit=500").await;
            let rows = audit.json()["items"].as_array().unwrap().len() as u64;
            looks.push((position(&audit), rows));
        }
        looks
    };
    let ((), looks) = tokio::join!(calls, looks);
    assert!(looks.iter().all(|(position, rows)| position == rows), "{looks:?}");
    // The header is among those that a browser's script or a HEAD request sees as well.
    let head = send(client.request(reqwest::Method::HEAD, "/v1/tasks")).await;
    assert!(position(&head) >= 20);
}
