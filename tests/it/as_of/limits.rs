//! How much of the past is added up for one question.

use serde_json::{Value, json};
use sqlx::Connection;

use super::admin;
use crate::app::{Child, Role, Stack, TableOwner, Tenant};

/// More by two than are added up.
const EVENTS: i64 = 50_002;

/// A call that was retried often, as if it had been projected: its request, and an event each second.
async fn insert_a_long_call(stack: &Stack, tenant: Tenant) {
    let request = json!({
        "tool": "task.create", "lane": "tasks", "arguments": {}, "request_fingerprint": "f", "session_id": "s", "principal": "ada",
        "roles": ["agent"], "policy_version": "p"
    });
    let retry = json!({"tool": "task.create", "attempt": 2, "worker": "w", "reason": "lost"});
    let call = uuid::Uuid::new_v5(&tenant.0, b"call");
    let mut connection = stack.connect(TableOwner::Superuser).await;
    let insert = "insert into audit_event (tenant_id, position, stream_sequence, event_id, event_type, event_version,
             aggregate_type, aggregate_id, aggregate_sequence, actor, occurred_at, correlation_id, data, prev_hash, hash)
         select $1, n, n, gen_random_uuid(), case when n = 1 then 'tool_call_requested' else 'tool_call_retried' end, 1,
             'tool_call', $2, n, 'ada', '2026-01-01T00:00:00Z'::timestamptz + make_interval(secs => n), $2,
             case when n = 1 then $3::json else $4::json end, '', ''
         from generate_series(1, $5) n";
    let insert = sqlx::query(insert).bind(tenant.0).bind(call).bind(request).bind(retry).bind(EVENTS);
    insert.execute(&mut connection).await.unwrap();
    for insert in [
        "insert into tool_call (tenant_id, call_id, tool, lane, status, session_id, principal, arguments, options, requested_at,
             requested_position, position)
         values ($1, $2, 'task.create', 'tasks', 'running', 's', 'ada', '{}', '{}', now(), 1, $3)",
        "insert into session (tenant_id, session_id, first_position, first_at, position, last_at, principals, calls, running,
             succeeded, failed, cancelled, cached, attempts, artifacts, tasks, duration_ms)
         select $1, 's', 1, now(), $3, now(), '{ada}', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0 where $2::uuid is not null",
        "insert into usage_day (tenant_id, day, tool, first_position, position, requested, succeeded, failed, cancelled, cached,
             attempts, retries, denied, rate_limited, bytes_in, bytes_out, duration_ms, latency)
         select $1, '2026-01-01', 'task.create', 1, $3, 1, 0, 0, 0, 0, 0, $3 - 1, 0, 0, 2, 0, 0, '{}' where $2::uuid is not null",
    ] {
        sqlx::query(insert).bind(tenant.0).bind(call).bind(EVENTS).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("analyze audit_event").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn more_than_so_many_events_are_not_added_up() {
    let stack = Stack::new().await;
    let tenant = Tenant::new();
    insert_a_long_call(&stack, tenant).await;
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let client = admin(&stack, &api, tenant);
    for position in [49_999, 50_000] {
        let session = client.get(&format!("/v1/sessions/s?as_of={position}")).await;
        assert_eq!(
            (session.status, session.json()["position"].clone()),
            (200, json!(position.to_string())),
            "{}",
            session.text()
        );
        let usage = client.get(&format!("/v1/usage?as_of={position}")).await;
        assert_eq!((usage.status, usage.json()["totals"]["retries"].clone()), (200, json!(position - 1)), "{}", usage.text());
    }
    for path in ["/v1/sessions/s?as_of=50001", "/v1/usage?as_of=50001"] {
        let problem = client.get(path).await.problem(400, "invalid");
        let detail = "more than 50000 events would have to be added up";
        assert_eq!(problem["errors"][0], json!({"pointer": "as_of", "detail": detail}), "{path}");
    }
    // The call itself, and what is over, are read as ever.
    let now = client.get(&format!("/v1/usage?as_of={EVENTS}")).await;
    assert_eq!(now.json()["totals"]["retries"], json!(EVENTS - 1));
}

/// Whatever a plan does, by its names.
fn steps(plan: &Value, found: &mut Vec<String>) {
    let text = |member: &str| plan[member].as_str().unwrap_or_default();
    found.push(format!("{} {}", text("Node Type"), text("Index Name")));
    plan["Plans"].as_array().into_iter().flatten().for_each(|plan| steps(plan, found));
}

#[tokio::test]
async fn a_time_is_found_by_the_index_of_times_alone() {
    let stack = Stack::new().await;
    let tenant = Tenant::new();
    insert_a_long_call(&stack, tenant).await;
    let mut reader = stack.connect(TableOwner::Reader).await;
    let query = "select min(position) from (
             select position from audit_event where occurred_at >= $1 order by occurred_at, position limit 100000
         ) later";
    // As a connection of the query API plans it, which does not know what is asked. All of this table is one tenant's, as no table of
    // several tenants is: read from end to end, or in pieces, it would cost less.
    let prepare = format!(
        "begin; set local enable_seqscan = off; set local enable_bitmapscan = off; set local plan_cache_mode = force_generic_plan; select set_tenant('{}');
         prepare first_since (timestamptz) as {query}",
        tenant.0
    );
    sqlx::raw_sql(&prepare).execute(&mut reader).await.unwrap();
    let plan: Value = sqlx::query_scalar("explain (format json) execute first_since ('2026-01-01T06:00:00Z')")
        .persistent(false)
        .fetch_one(&mut reader)
        .await
        .unwrap();
    let mut found = Vec::new();
    steps(&plan[0]["Plan"], &mut found);
    assert!(found.contains(&"Index Only Scan audit_event_occurred".to_owned()), "{found:?}");
    assert!(found.iter().all(|step| !step.contains("Sort") && !step.contains("Seq Scan")), "{found:?}");
}
