//! The past, asked at every position of histories that nobody thought of: the answer is the fold of the events up to there.

mod history;
mod limits;
mod model;
mod parked;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::Connection;
use toolgate_events::{Envelope, serde_text::timestamp};

use self::history::{Dice, SESSIONS, append, history};
use crate::app::{Answer, Child, Client, Role, Stack, TableOwner, Tenant, Token, wait_until};

const LENGTH: usize = 70;

/// Projected by as many projectors as there are entries, each with its variables; all but the last die.
async fn projected(stack: &Stack, events: i64, projectors: &[&[(&str, &str)]]) -> Child {
    let (last, dying) = projectors.split_last().unwrap();
    for variables in dying {
        let mut projector = Child::start(stack, Role::Projector, variables).await;
        assert!(!projector.ended().await.success(), "{variables:?}: it was to die");
    }
    let projector = Child::start(stack, Role::Projector, last).await;
    let count = "select count(*) from audit_event";
    wait_until("everything is projected", async || stack.count(count).await >= events).await;
    assert_eq!(stack.count(count).await, events);
    projector
}

fn admin(stack: &Stack, api: &Child, tenant: Tenant) -> Client {
    Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()))
}

fn encoded(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// The body without what the model does not tell.
fn without(answer: &Answer, members: &[&str]) -> Value {
    let mut body = answer.json();
    members.iter().for_each(|member| drop(body.as_object_mut().unwrap().remove(*member)));
    body
}

/// Compares what is answered for one position, or for now, with what the events up to there come to.
async fn compare(client: &Client, history: &[Envelope], position: usize, as_of: Option<&str>, calls: &[uuid::Uuid]) {
    let past = &history[..position];
    let parameter = as_of.map(|as_of| format!("as_of={as_of}")).unwrap_or_default();
    for call in calls {
        let answer = client.get(&format!("/v1/tool-calls/{call}?{parameter}")).await;
        match model::call(past, *call) {
            None => drop(answer.problem(404, "not-found")),
            Some(expected) => assert_eq!(answer.json(), expected, "call {call} as of {position}"),
        }
    }
    for id in SESSIONS {
        let answer = client.get(&format!("/v1/sessions/{}?{parameter}", encoded(id))).await;
        match model::session(past, id) {
            None => drop(answer.problem(404, "not-found")),
            Some(expected) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(answer.header("toolgate-position"), position.to_string());
                assert_eq!(without(&answer, &["links"]), expected, "session {id} as of {position}");
            }
        }
    }
    let answer = client.get(&format!("/v1/usage?{parameter}")).await;
    let (items, durations) = model::usage(past);
    let mut report = answer.json();
    assert_eq!(report["position"], position.to_string(), "{report}");
    assert_eq!(answer.header("toolgate-position"), position.to_string());
    let all: Vec<_> = model::understood(past).into_iter().map(|(_, event)| event).collect();
    let latency = report["totals"].as_object_mut().unwrap().remove("latency_ms").unwrap();
    assert_eq!(report["totals"], model::used(&all), "as of {position}");
    model::assert_quantiles(&latency, &model::durations(&all), &format!("as of {position}"));
    for (item, durations) in report["items"].as_array_mut().unwrap().iter_mut().zip(&durations) {
        let latency = item.as_object_mut().unwrap().remove("latency_ms").unwrap();
        model::assert_quantiles(&latency, durations, &format!("{item} as of {position}"));
    }
    assert_eq!(report["items"], json!(items), "as of {position}");
    let newest = items.last().map(|item| item["day"].as_str().unwrap().parse::<NaiveDate>().unwrap());
    assert_eq!(report["to"], json!(newest), "as of {position}");
    assert_eq!(report["from"], json!(newest.and_then(|newest| newest.checked_sub_days(Days::new(29)))), "as of {position}");
}

#[tokio::test]
async fn at_every_position_the_answer_is_the_fold_of_the_events_up_to_there() {
    let mut dice = Dice::thrown();
    let stack = Stack::new().await;
    let (tenant, other) = (Tenant::new(), Tenant::new());
    let (asked, noise) = (history(&mut dice, tenant.id(), LENGTH), history(&mut dice, other.id(), LENGTH));
    let (before, after) = noise.split_at(LENGTH / 2);
    append(&stack, before.iter().chain(&asked).chain(after)).await;
    let _projector = projected(&stack, 2 * LENGTH as i64, &[&[("TOOLGATE_PROJECTOR_BATCH", "9")]]).await;
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let client = admin(&stack, &api, tenant);
    for position in 0..=LENGTH {
        // The call that the last event is of, and any other.
        let calls = [position.saturating_sub(1), usize::try_from(dice.below(LENGTH as u64)).unwrap()];
        let calls = calls.map(|index| asked[index].aggregate_id.0);
        compare(&client, &asked, position, Some(&position.to_string()), &calls).await;
    }
    // Now is the newest position, read from the tables.
    let every: Vec<_> = asked.iter().map(|event| event.aggregate_id.0).collect();
    compare(&client, &asked, LENGTH, None, &every).await;
    let other = admin(&stack, &api, other);
    compare(&other, &noise, LENGTH, None, &[]).await;
    for refused in ["71", "18446744073709551615"] {
        let problem = client.get(&format!("/v1/usage?as_of={refused}")).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0], json!({"pointer": "as_of", "detail": "the newest position is 70"}));
    }
}

/// The last position before the first event that occurred later.
fn position_at(history: &[Envelope], time: DateTime<Utc>) -> usize {
    history.iter().position(|event| event.occurred_at > time).unwrap_or(history.len())
}

#[tokio::test]
async fn a_time_is_the_last_position_before_anything_that_occurred_later() {
    let mut dice = Dice::thrown();
    let stack = Stack::new().await;
    let tenant = Tenant::new();
    let asked = history(&mut dice, tenant.id(), LENGTH);
    append(&stack, &asked).await;
    let _projector = projected(&stack, LENGTH as i64, &[&[]]).await;
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let client = admin(&stack, &api, tenant);
    let mut last = 0;
    let mut times: Vec<_> = asked.iter().map(|event| event.occurred_at).collect();
    times.sort_unstable();
    let (before, after) = (times[0] - TimeDelta::days(9), times[LENGTH - 1] + TimeDelta::days(9));
    times.extend([before, after]);
    let mut times: Vec<_> =
        times.into_iter().flat_map(|time| [-1, 0, 1].map(|step| time + TimeDelta::microseconds(step))).collect();
    times.sort_unstable();
    for time in times {
        let position = position_at(&asked, time);
        assert!(last <= position, "a later time never shows less");
        last = position;
        let answer = client.get(&format!("/v1/usage?as_of={}", timestamp::format(&time))).await;
        assert_eq!(answer.header("toolgate-position"), position.to_string(), "{time}");
    }
    // Once in full, with another offset.
    let time = asked[LENGTH / 3].occurred_at;
    let offset = time.with_timezone(&chrono::FixedOffset::east_opt(7 * 3600).unwrap()).to_rfc3339().replace('+', "%2B");
    compare(&client, &asked, position_at(&asked, time), Some(&offset), &[asked[0].aggregate_id.0]).await;
}

/// The rows of what is added up, as text.
async fn sums(stack: &Stack) -> Vec<String> {
    let mut superuser = stack.connect(TableOwner::Superuser).await;
    let mut rows = Vec::new();
    for table in ["session", "session_tool", "usage_day"] {
        let query = format!("select '{table} ' || row_to_json(t)::text from {table} t order by 1");
        let more: Vec<String> = sqlx::query_scalar(&query).fetch_all(&mut superuser).await.unwrap();
        assert!(!more.is_empty(), "{table}");
        rows.extend(more);
    }
    superuser.close().await.unwrap();
    rows
}

#[tokio::test]
async fn no_crash_and_no_size_of_batches_changes_a_sum() {
    let mut dice = Dice::thrown();
    let tenants = [Tenant::new(), Tenant::new(), Tenant::new()];
    let histories = tenants.map(|tenant| history(&mut dice, tenant.id(), LENGTH));
    let (calm, troubled) = (Stack::new().await, Stack::new().await);
    for history in &histories {
        append(&calm, history).await;
        append(&troubled, history).await;
    }
    let events = 3 * LENGTH as i64;
    let _calm = projected(&calm, events, &[&[]]).await;
    let dies = |point| ("TOOLGATE_CRASH_AT", point);
    let small = ("TOOLGATE_PROJECTOR_BATCH", "7");
    let projectors: [&[_]; 6] = [
        &[dies("projector.written"), small],
        &[dies("projector.committed"), small],
        &[dies("projector.written")],
        &[dies("projector.committed"), ("TOOLGATE_PROJECTOR_BATCH", "1")],
        &[dies("projector.committed"), small],
        &[("TOOLGATE_PROJECTOR_BATCH", "11")],
    ];
    let _troubled = projected(&troubled, events, &projectors).await;
    assert_eq!(sums(&calm).await, sums(&troubled).await);
}
