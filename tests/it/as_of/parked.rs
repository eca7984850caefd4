use chrono::TimeDelta;
use serde_json::{Value, json};
use sqlx::Executor;
use toolgate_events::{CallId, Envelope, Form};
use toolgate_store::Clock;
use uuid::Uuid;

use super::{admin, history::append, projected, without};
use crate::app::{Child, Role, Stack, TableOwner, Tenant};

fn event(tenant: Tenant, call: Uuid, sequence: u64, event_type: &str, data: Value) -> Envelope {
    Envelope {
        event_id: Clock::system().new_id(),
        event_type: event_type.to_owned(),
        event_version: 1,
        tenant_id: tenant.id(),
        aggregate_type: "tool_call".to_owned(),
        aggregate_id: CallId(call),
        aggregate_sequence: sequence,
        correlation_id: call,
        causation_id: None,
        actor: "tester".to_owned(),
        occurred_at: Clock::system().now() + TimeDelta::milliseconds(sequence.cast_signed()),
        trace_context: None,
        data,
        form: Form::Recorded,
    }
}

/// What waits for an event that nobody understands waits in the past, too; what only a tool's read model refused has happened.
#[tokio::test]
async fn while_something_is_parked_the_past_up_to_now_is_what_is_now() {
    let stack = Stack::new().await;
    let refused = "alter table task add constraint no_task check (version = 0)";
    stack.connect(TableOwner::Superuser).await.execute(refused).await.unwrap();
    let (tenant, [waits, is_refused]) = (Tenant::new(), [Clock::system().new_id(), Clock::system().new_id()]);
    let requested = json!({"tool": "task.create", "lane": "nobody", "arguments": {"title": "t"}, "request_fingerprint": "f",
        "session_id": "s1", "principal": "ada", "roles": ["agent"], "policy_version": "p"});
    let succeeded =
        json!({"tool": "task.create", "attempt": 1, "worker": "w", "duration_ms": 5, "result": {"task_id": tenant.0}});
    let events = [
        event(tenant, waits, 1, "tool_call_requested", requested.clone()),
        event(tenant, waits, 2, "tool_call_paused", json!({})),
        event(tenant, is_refused, 1, "tool_call_requested", requested),
        event(tenant, is_refused, 2, "tool_call_succeeded", succeeded.clone()),
        event(tenant, waits, 3, "tool_call_succeeded", succeeded),
    ];
    append(&stack, &events).await;
    let _projector = projected(&stack, 5, &[&[]]).await;
    assert_eq!(stack.count("select count(*) from parked_event").await, 3);
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let client = admin(&stack, &api, tenant);
    let paths = [format!("/v1/tool-calls/{waits}"), format!("/v1/tool-calls/{is_refused}"), "/v1/sessions/s1".to_owned()];
    for path in paths.iter().map(String::as_str).chain(["/v1/usage"]) {
        let (now, past) = (client.get(path).await, client.get(&format!("{path}?as_of=5")).await);
        assert_eq!((now.status, past.status), (200, 200), "{path}");
        // The list is of tasks that there are, and of the refused one there is none.
        assert_eq!(without(&past, &["tasks"]), without(&now, &["tasks"]), "{path}");
    }
    let session = client.get("/v1/sessions/s1").await.json();
    assert_eq!((&session["calls"]["succeeded"], &session["calls"]["requested"]), (&json!(1), &json!(1)), "{session}");
}
