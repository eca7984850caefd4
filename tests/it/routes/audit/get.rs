//! `GET /v1/audit` and `GET /v1/audit/export`

use serde_json::Value;
use toolgate_events::audit::{self, AuditRow};

use crate::app::{Client, Tenant, TestApp, Token, post_mixed, wait_until};

/// A trail of some length, with two actors besides the workers.
async fn with_history(app: &TestApp) -> Client {
    let client = app.admin();
    assert_eq!(post_mixed(&client, 30, 8, |_| ()).await.len(), 30);
    let other = app.client_with(client.tenant, &Token::of(client.tenant, "agent").subject("somebody-else"));
    assert_eq!(post_mixed(&other, 5, 2, |_| ()).await.len(), 5);
    let outcomes = "select count(*) from audit_event where event_type in ('tool_call_succeeded', 'tool_call_failed')";
    wait_until("every call has an outcome", async || app.stack.count(outcomes).await == 35).await;
    client
}

fn positions(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["position"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn the_trail_is_gapless_from_1_and_its_chain_holds() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let rows = client.audit().await;
    assert_eq!(positions(&rows), (1..=rows.len() as u64).collect::<Vec<_>>());
    let mut before = (0, audit::genesis_hash(client.tenant.id()));
    for row in &rows {
        let row: AuditRow = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(audit::verify((before.0, &before.1), &row), Ok(()));
        before = (row.position, row.hash);
    }
    // Every event of the log is in it: there is only this tenant.
    assert_eq!(rows.len() as u64, app.stack.events_in_log().await);
    // A chain that was begun for another tenant does not hold here.
    let first: AuditRow = serde_json::from_value(rows[0].clone()).unwrap();
    assert!(audit::verify((0, &audit::genesis_hash(Tenant::new().id())), &first).is_err());
}

#[tokio::test]
async fn filters_and_positions_select_rows() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let all = client.audit().await;
    let select = async |query: &str| client.pages(&format!("/v1/audit?limit=500{query}"), "after").await;
    let expect = |filter: &dyn Fn(&Value) -> bool| all.iter().filter(|row| filter(row)).cloned().collect::<Vec<_>>();

    let page = client.get("/v1/audit?after=10&limit=5").await.json();
    assert_eq!(positions(page["items"].as_array().unwrap()), [11, 12, 13, 14, 15], "after is exclusive");
    assert_eq!(page["next_cursor"], "15");
    let last = all.len();
    let end = client.get(&format!("/v1/audit?after={last}")).await.json();
    assert_eq!((end["items"].as_array().unwrap().len(), &end["next_cursor"]), (0, &Value::Null));

    let call = all[20]["aggregate_id"].as_str().unwrap();
    assert_eq!(select(&format!("&call_id={call}")).await, expect(&|row| row["aggregate_id"] == call));
    assert_eq!(select("&actor=somebody-else").await, expect(&|row| row["actor"] == "somebody-else"));
    assert_eq!(select("&actor=somebody-else").await.len(), 5);
    assert_eq!(select("&type=tool_call_requested").await.len(), 35);
    let time = all[30]["occurred_at"].as_str().unwrap();
    let text = |row: &Value| row["occurred_at"].as_str().unwrap().to_owned();
    assert_eq!(select(&format!("&from={time}")).await, expect(&|row| text(row).as_str() >= time), "from is inclusive");
    assert_eq!(select(&format!("&to={time}")).await, expect(&|row| text(row).as_str() < time), "to is exclusive");
    for bad in ["after=-1", "call_id=x", "from=yesterday", "type=%00", "unknown=1"] {
        client.get(&format!("/v1/audit?{bad}")).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn an_export_is_the_list_line_by_line() {
    let app = TestApp::start().await;
    let client = with_history(&app).await;
    let export = client.get("/v1/audit/export").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let rows: Vec<Value> = export.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows, client.audit().await);
    let part = client.get("/v1/audit/export?after=7&type=tool_call_requested").await.text();
    let part: Vec<Value> = part.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<_> = rows
        .into_iter()
        .filter(|row| row["event_type"] == "tool_call_requested")
        .filter(|row| positions(std::slice::from_ref(row))[0] > 7)
        .collect();
    assert_eq!(part, expected);
}

#[tokio::test]
async fn the_trail_is_for_auditors() {
    let app = TestApp::start().await;
    let tenant = Tenant::new();
    for path in ["/v1/audit", "/v1/audit/export"] {
        for (role, status) in [("agent", 403), ("viewer", 403), ("auditor", 200), ("admin", 200)] {
            assert_eq!(app.client(tenant, role).get(path).await.status, status, "{role} {path}");
        }
    }
}
