//! What is refused is on record, whole and bounded.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use toolgate_command_api::Refusals;
use toolgate_events::{CallId, Envelope, Event, LimitPolicy, RefusalEvent, TenantId};
use toolgate_security::{Input, Policy};
use toolgate_store::{Clock, Log};

use crate::app::{Client, Stack, Tenant, TestApp, Token, eventually, task, wait_until};

/// The tenant's audit rows, once there are so many.
async fn audit_of(client: &Client, rows: usize) -> Vec<Value> {
    eventually("the refusals are projected", async || {
        let audit = client.audit().await;
        (audit.len() >= rows).then_some(audit)
    })
    .await
}

#[tokio::test]
async fn a_denial_is_on_record_with_everything_it_was_decided_from() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let token = Token::of(admin.tenant, "viewer").subject("ada").claim("roles", json!(["viewer", "unheard-of"]));
    let ada = app.client_with(admin.tenant, &token.claim("permissions", json!(["tool.knowledge.search:invoke"])));
    let mut stream = ada.events("?after=0", None).await;
    stream.frame().await.unwrap();
    ada.call("k", &task()).await.problem(403, "forbidden");

    let row = audit_of(&admin, 1).await.remove(0);
    let policy = Policy::built_in().unwrap();
    let expected = json!({
        "tool": "task.create",
        "permission": "tool.task.create:invoke",
        "policy_version": policy.version(),
        "rule": "no rule grants it",
        "principal": "ada",
        "roles": ["viewer", "unheard-of"],
        "permissions": ["tool.knowledge.search:invoke"],
        "refused": 1,
        "window_seconds": 60,
    });
    assert_eq!(row["data"], expected);
    assert_eq!((row["event_type"].as_str(), row["actor"].as_str()), (Some("tool_call_denied"), Some("ada")));
    assert_eq!((row["aggregate_type"].as_str(), row["aggregate_sequence"].as_str()), (Some("refusal"), Some("1")));
    assert_eq!((&row["correlation_id"], &row["causation_id"]), (&row["aggregate_id"], &Value::Null));
    // What is recorded decides alike.
    let owned = |field: &str| serde_json::from_value::<Vec<String>>(row["data"][field].clone()).unwrap();
    let (roles, permissions) = (owned("roles"), owned("permissions"));
    let input = Input { tenant_id: admin.tenant.id(), roles: &roles, permissions: &permissions };
    let verdict = policy.decide(input, row["data"]["permission"].as_str().unwrap());
    assert_eq!((verdict.is_allowed(), verdict.to_string().as_str()), (false, row["data"]["rule"].as_str().unwrap()));

    let frame = stream.event().await.unwrap();
    assert_eq!((frame.name(), frame.position()), ("tool_call_denied", 1));
    assert_eq!(frame.json()["data"], row["data"]);
    // It is no call, whoever asks for it.
    let id: CallId = row["aggregate_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(app.stack.log().await.locate(admin.tenant.id(), id).await.unwrap(), None);
    let path = format!("/v1/tool-calls/{id}");
    admin.get(&path).await.problem(404, "not-found");
    admin.get(&format!("{path}/events")).await.problem(404, "not-found");
    admin.post(&format!("{path}/cancel")).await.problem(404, "not-found");
    assert_eq!(admin.get("/v1/tool-calls").await.json()["items"], json!([]));
    assert_eq!(app.admin().audit().await, [] as [Value; 0], "another tenant sees it");
}

#[tokio::test]
async fn whoever_may_not_cancel_is_on_record_too() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let viewer = app.client(admin.tenant, "viewer");
    let call = admin.call_and_wait("k", &task()).await;
    viewer.post(&format!("/v1/tool-calls/{}/cancel", call.call_id())).await.problem(403, "forbidden");
    let rows = audit_of(&admin, 3).await;
    let denied = rows.iter().find(|row| row["event_type"] == "tool_call_denied").unwrap();
    assert_eq!((denied["data"].get("tool"), &denied["data"]["permission"]), (None, &json!("tool_call:cancel")));
}

#[tokio::test]
async fn a_thousand_denials_are_two_events_a_kind_and_none_is_lost() {
    let mut app = TestApp::start().await;
    let admin = app.admin();
    let client = |subject: &str| app.client_with(admin.tenant, &Token::of(admin.tenant, "viewer").subject(subject));
    let (bob, eve) = (client("bob"), client("eve"));
    let search = json!({"tool": "knowledge.search", "arguments": {"query": "x"}});
    let began = Instant::now();
    let requests = stream::iter(0..1_000).map(|number| {
        let (client, body) = match number % 10 {
            0 => (&eve, task()),
            1..4 => (&bob, search.clone()),
            _ => (&bob, task()),
        };
        async move { client.call("k", &body).await.problem(403, "forbidden") }
    });
    assert_eq!(requests.buffer_unordered(16).count().await, 1_000);
    // The first of each kind does not wait for the end of the minute.
    audit_of(&admin, 3).await;
    app.stop().await;
    // A minute may have ended meanwhile on a slow machine.
    let windows = began.elapsed().as_secs() / 60 + 1;
    app.start_again().await;

    let admin = admin.at(app.url());
    let logged = app.stack.events_in_log().await;
    let rows = audit_of(&admin, usize::try_from(logged).unwrap()).await;
    let mut kinds: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for row in rows {
        assert_eq!(row["event_type"], "tool_call_denied");
        let text = |field: &str| row["data"][field].as_str().unwrap().to_owned();
        let (events, refused) = kinds.entry((text("principal"), text("tool"))).or_default();
        *events += 1;
        *refused += row["data"]["refused"].as_u64().unwrap();
    }
    let kind = |principal: &str, tool: &str| (principal.to_owned(), tool.to_owned());
    let refused: Vec<_> = kinds.iter().map(|(kind, (_, refused))| (kind.clone(), *refused)).collect();
    let expected = [(kind("bob", "knowledge.search"), 300), (kind("bob", "task.create"), 600), (kind("eve", "task.create"), 100)];
    assert_eq!(refused, expected);
    assert!(kinds.values().all(|(events, _)| (1..=2 * windows).contains(events)), "{kinds:?}");
}

/// Every refusal in the log, by tenant.
async fn refusals_in(log: &Log) -> Vec<(TenantId, RefusalEvent)> {
    let mut refusals = Vec::new();
    for partition in log.all_partitions() {
        let mut reader = log.read_since(partition, None, Clock::system().now() - chrono::Duration::hours(1)).await.unwrap();
        while let Some(message) = reader.next().await {
            let envelope = Envelope::decode(&message.unwrap().payload).unwrap();
            match envelope.event().unwrap() {
                Event::Erasure(erasure) => panic!("nobody erased anything: {erasure:?}"),
                Event::Refusal(refusal) => refusals.push((envelope.tenant_id, refusal)),
                Event::ToolCall(event) => panic!("{event:?}"),
            }
        }
    }
    refusals
}

#[tokio::test]
async fn exceeded_limits_are_recorded_the_same_way() {
    let stack = Stack::new().await;
    let log = stack.log().await;
    let refusals = Refusals::open(log.clone(), Clock::system(), &mut Registry::default());
    let (one, other) = (Tenant::new().id(), Tenant::new().id());
    for _ in 0..500 {
        refusals.rate_limited(one, LimitPolicy::Tool, Some("task.create"), 60, Some("ada"));
        refusals.rate_limited(other, LimitPolicy::Tenant, None, 6_000, None);
    }
    wait_until("the first of each are recorded", async || refusals_in(&log).await.len() == 2).await;
    refusals.rate_limited(one, LimitPolicy::Tool, Some("task.create"), 60, Some("ada"));
    refusals.close().await;
    let recorded = refusals_in(&log).await;
    for (tenant, total, policy) in [(one, 501, "tool"), (other, 500, "tenant")] {
        let of_tenant: Vec<_> = recorded.iter().filter(|(of, _)| *of == tenant).map(|(_, refusal)| refusal).collect();
        assert!((1..=2).contains(&of_tenant.len()), "{of_tenant:?}");
        assert_eq!(of_tenant.iter().map(|refusal| refusal.refused()).sum::<u64>(), total);
        assert!(of_tenant.iter().all(|refusal| refusal.data().unwrap()["policy"] == policy), "{of_tenant:?}");
    }
}

#[tokio::test]
async fn while_the_log_is_away_counting_goes_on_and_nobody_waits() {
    let (stack, mut services) = Stack::private(false).await;
    let log = stack.log().await;
    let refusals = Refusals::open(log.clone(), Clock::system(), &mut Registry::default());
    let tenant = Tenant::new().id();
    services.nats_mut().unwrap().kill().await;
    let began = Instant::now();
    for number in 0..10_000 {
        refusals.rate_limited(tenant, LimitPolicy::OpenCalls, None, 5, Some(&(number % 200).to_string()));
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    services.nats_mut().unwrap().restart().await.unwrap();
    wait_until("the log is back and the first are recorded", async || log.is_connected() && refusals_in(&log).await.len() >= 101)
        .await;
    refusals.close().await;
    let recorded = refusals_in(&log).await;
    assert_eq!(recorded.iter().map(|(_, refusal)| refusal.refused()).sum::<u64>(), 10_000);
    assert!(recorded.len() <= 2 * 101, "{}", recorded.len());
    let of_several = recorded.iter().filter(|(_, refusal)| refusal.principal().is_none());
    assert_eq!(of_several.map(|(_, refusal)| refusal.refused()).sum::<u64>(), 5_000);
}
