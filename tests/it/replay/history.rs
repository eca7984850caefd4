use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    app::{Child, Role, Stack, Tenant, TestApp, task, task_titled},
    replay::{generated::append, projected, random::Story, replay},
};

fn lines(stdout: &str, kind: &str) -> Vec<Value> {
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get(kind).is_some()).collect()
}

#[tokio::test]
async fn a_calls_history_is_its_events_and_what_they_amount_to() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await.json();
    client.call_and_wait("other", &task_titled("other")).await;
    projected(&app.stack).await;
    let (tenant, id) = (client.tenant.0.to_string(), call["call_id"].as_str().unwrap());

    let one = replay(&app.stack, &["--tenant", &tenant, "--call", id]).await.succeeded();
    let events = lines(&one.stdout, "event");
    let names: Vec<_> = events.iter().map(|line| line["event"]["event_type"].as_str().unwrap()).collect();
    assert_eq!(names, ["tool_call_requested", "tool_call_succeeded"]);
    assert_eq!(events[0]["event"]["position"], "1");
    let calls = lines(&one.stdout, "call");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["call_id"], call["call_id"]);
    assert_eq!(calls[0]["call"]["status"], "succeeded");
    assert_eq!(calls[0]["call"]["result"], call["result"]);

    let all = replay(&app.stack, &["--tenant", &tenant]).await.succeeded();
    assert_eq!((lines(&all.stdout, "event").len(), lines(&all.stdout, "call").len()), (4, 2));
}

#[tokio::test]
async fn another_tenants_call_is_like_one_that_never_was() {
    let app = TestApp::start().await;
    let client = app.admin();
    let call = client.call_and_wait("k", &task()).await.json();
    projected(&app.stack).await;
    let other = Tenant::new().0.to_string();
    for id in [call["call_id"].as_str().unwrap(), &Uuid::nil().to_string()] {
        let nothing = replay(&app.stack, &["--tenant", &other, "--call", id]).await.succeeded();
        assert_eq!(nothing.stdout, "");
    }
    assert_eq!(replay(&app.stack, &["--tenant", &other]).await.succeeded().stdout, "");
}

/// What nobody understands is shown as what it is; everything else is replayed around it, old versions as what they mean today.
#[tokio::test]
async fn old_and_unknown_events_are_replayed_too() {
    let stack = Stack::new().await;
    let mut story = Story::new(11);
    append(&stack, story.tell(300)).await;
    let _projector = Child::start(&stack, Role::Projector, &[]).await;
    projected(&stack).await;
    let mut shown = 0;
    for tenant in story.tenants() {
        let ran = replay(&stack, &["--tenant", &tenant.0.to_string()]).await.succeeded();
        let events = lines(&ran.stdout, "event");
        let recorded =
            format!("select count(*) from audit_event where aggregate_type = 'tool_call' and tenant_id = '{}'", tenant.0);
        assert_eq!(i64::try_from(events.len()).unwrap(), stack.count(&recorded).await);
        shown += events.iter().filter(|line| line["event"].get("not_understood").is_some()).count();
        for line in events.iter().filter(|line| line["event"]["event_version"] == json!("1")) {
            if line["event"]["event_type"] == "tool_call_requested" && line["event"].get("data").is_some() {
                assert!(line["event"]["data"]["authorization"]["rule"].is_string(), "{line}");
            }
        }
    }
    assert!(shown > 0);
}
