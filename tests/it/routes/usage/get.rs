//! `GET /v1/usage`

use serde_json::{Value, json};

use crate::app::{Tenant, TestApp, task, task_titled};

#[tokio::test]
async fn what_was_used_is_counted_by_tool_and_refusals_count_too() {
    let app = TestApp::start().await;
    let client = app.admin();
    for number in 0..2 {
        let call = client.call_and_wait(&format!("k{number}"), &task_titled(&format!("T{number}"))).await.json();
        client.get_projected(&call).await;
    }
    let failing = json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "{{", "data": {}, "format": "html"}});
    let failed = client.call_and_wait("failing", &failing).await.json();
    client.get_projected(&failed).await;
    // The same key is no other call.
    assert_eq!(client.call_and_wait("k0", &task_titled("T0")).await.status, 200);
    app.client(client.tenant, "viewer").call("denied", &task()).await.problem(403, "forbidden");
    let report = crate::app::eventually("the refusal is projected", async || {
        let report = client.get("/v1/usage").await.json();
        (report["totals"]["denied"] == 1).then_some(report)
    })
    .await;
    let items = report["items"].as_array().unwrap();
    let of = |tool: &str| items.iter().find(|item| item["tool"] == tool).unwrap();
    let tasks = of("task.create");
    assert_eq!((&tasks["requested"], &tasks["succeeded"], &tasks["failed"]), (&json!(2), &json!(2), &json!(0)));
    assert_eq!(tasks["bytes_in"], (2 * r#"{"title":"T0"}"#.len()).to_string());
    assert_eq!(tasks["latency_ms"]["runs"], 2);
    assert_eq!((&of("document.render")["requested"], &of("document.render")["failed"]), (&json!(1), &json!(1)));
    assert_eq!((&report["totals"]["requested"], &report["totals"]["latency_ms"]["runs"]), (&json!(3), &json!(3)));
    let day = tasks["day"].as_str().unwrap();
    for (query, expected) in [
        ("tool=task.create".to_owned(), 2),
        ("tool=none".to_owned(), 0),
        (format!("from={day}&to={day}"), 3),
        (format!("from={day}"), 3),
        (format!("to={day}&tool=document.render"), 1),
        ("from=2020-01-01&to=2020-12-31".to_owned(), 0),
        ("to=2020-12-31".to_owned(), 0),
        ("from=9999-12-31".to_owned(), 0),
    ] {
        let narrowed = client.get(&format!("/v1/usage?{query}")).await.json();
        assert_eq!(narrowed["totals"]["requested"], expected, "{query}: {narrowed}");
    }
}

#[tokio::test]
async fn a_tenant_that_used_nothing_has_an_empty_report() {
    let app = TestApp::start().await;
    let other = app.admin();
    let call = other.call_and_wait("k", &task()).await.json();
    other.get_projected(&call).await;
    let answer = app.admin().get("/v1/usage").await;
    assert_eq!(answer.header("toolgate-position"), "0");
    let report = answer.json();
    assert_eq!((&report["items"], &report["from"], &report["to"]), (&json!([]), &Value::Null, &Value::Null));
    assert_eq!(report["totals"]["latency_ms"], json!({"runs": 0, "p50": null, "p95": null, "p99": null}));
}

#[tokio::test]
async fn days_are_days_in_order_and_at_most_a_year_of_them() {
    let app = TestApp::start().await;
    let client = app.admin();
    for (query, pointer) in [
        ("from=x", "from"),
        ("from=2026-02-30", "from"),
        ("from=2026-01-01T00:00:00Z", "from"),
        ("to=-0001-01-01", "to"),
        ("to=%2B10000-01-01", "to"),
        ("from=2026-01-02&to=2026-01-01", "to"),
        ("from=2026-01-01&to=2027-01-02", "to"),
        ("tool=%00", "tool"),
        ("limit=1", "limit"),
        ("min_position=x", "min_position"),
    ] {
        let problem = client.get(&format!("/v1/usage?{query}")).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}: {problem}");
    }
    assert_eq!(client.get("/v1/usage?from=2026-01-01&to=2027-01-01").await.status, 200);
    assert_eq!(client.get("/v1/usage?from=2026-01-01&to=2026-01-01").await.status, 200);
    app.client(Tenant::new(), "nobody").get("/v1/usage?from=x").await.problem(403, "forbidden");
}
