//! What the answers must be, told from a list of events as plainly as possible, and by nothing of what is put to the test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use toolgate_events::{Envelope, canonical, serde_text::timestamp};
use uuid::Uuid;

/// The events that this release understands, each with its position.
pub fn understood(events: &[Envelope]) -> Vec<(u64, &Envelope)> {
    let positioned = (1..).zip(events);
    positioned
        .filter(|(_, event)| {
            let is_known = event.event_type != "tool_call_paused" && event.event_version < 99;
            is_known && !canonical::to_string(&event.data).contains("\\u0000")
        })
        .collect()
}

fn of_call(events: &[Envelope], call: Uuid) -> Vec<(u64, &Envelope)> {
    let is_own = |event: &Envelope| event.aggregate_id.0 == call && event.aggregate_type == "tool_call";
    understood(events).into_iter().filter(|(_, event)| is_own(event)).collect()
}

fn is_outcome(event: &Envelope) -> bool {
    ["tool_call_succeeded", "tool_call_failed", "tool_call_cancelled"].contains(&event.event_type.as_str())
}

fn status(events: &[(u64, &Envelope)]) -> &'static str {
    match events.last().unwrap().1.event_type.as_str() {
        "tool_call_requested" => "requested",
        "tool_call_started" | "tool_call_retried" => "running",
        "tool_call_succeeded" => "succeeded",
        "tool_call_failed" => "failed",
        _ => "cancelled",
    }
}

/// A call after these events.
pub fn call(events: &[Envelope], call: Uuid) -> Option<Value> {
    let own = of_call(events, call);
    let (_, request) = own.first()?;
    let (position, last) = own.last()?;
    let attempts = own.iter().filter_map(|(_, event)| event.data["attempt"].as_u64()).max().unwrap_or(0);
    let link = format!("/v1/tool-calls/{call}");
    let mut view = json!({
        "call_id": call, "tool": request.data["tool"], "status": status(&own), "session_id": request.data["session_id"],
        "attempts": attempts, "requested_at": timestamp::format(&request.occurred_at), "position": position.to_string(),
        "links": {"self": link, "events": format!("{link}/events"), "cancel": format!("{link}/cancel")},
    });
    if is_outcome(last) {
        view["finished_at"] = json!(timestamp::format(&last.occurred_at));
    }
    if let Some(result) = last.data.get("result") {
        view["result"] = result.clone();
        view["cached"] = json!(last.data["cached"] == true);
        if last.data["stale"] == true {
            view["stale"] = json!(true);
        }
    }
    if let Some(error) = last.data.get("error") {
        view["error"] = error.clone();
    }
    Some(view)
}

fn principal(request: &Envelope) -> String {
    let data = &request.data;
    data["authorization"]["principal"].as_str().or(data["principal"].as_str()).unwrap().to_owned()
}

fn sum(events: &[&Envelope], member: &str) -> u64 {
    events.iter().filter_map(|event| event.data[member].as_u64()).sum()
}

fn named<'a>(events: &[&'a Envelope], event_type: &str) -> Vec<&'a Envelope> {
    events.iter().copied().filter(|event| event.event_type == event_type).collect()
}

/// Where tools ran: outcomes but for those of earlier calls.
fn runs<'a>(events: &[&'a Envelope]) -> Vec<&'a Envelope> {
    let ran = |event: &&&Envelope| {
        event.event_type == "tool_call_failed" || (event.event_type == "tool_call_succeeded" && event.data["cached"] != true)
    };
    events.iter().filter(ran).copied().collect()
}

fn outcomes_of(events: &[&Envelope]) -> Value {
    let count = |event_type: &str| named(events, event_type).len();
    json!({
        "succeeded": count("tool_call_succeeded"), "failed": count("tool_call_failed"), "cancelled": count("tool_call_cancelled"),
        "cached": events.iter().filter(|event| event.data["cached"] == true).count(),
        "attempts": sum(&named(events, "tool_call_succeeded"), "attempt") + sum(&named(events, "tool_call_failed"), "attempt"),
        "duration_ms": sum(&runs(events), "duration_ms").to_string(),
    })
}

/// A session after these events.
pub fn session(events: &[Envelope], id: &str) -> Option<Value> {
    let requests = understood(events).into_iter().filter(|(_, event)| event.data["session_id"] == id);
    let calls: BTreeSet<Uuid> = requests.map(|(_, request)| request.aggregate_id.0).collect();
    let positioned: Vec<_> = understood(events).into_iter().filter(|(_, event)| calls.contains(&event.aggregate_id.0)).collect();
    let (first, last) = (positioned.first()?, positioned.last()?);
    let own: Vec<_> = positioned.iter().map(|(_, event)| *event).collect();
    let statuses: Vec<_> = calls.iter().map(|call| status(&of_call(events, *call))).collect();
    let standing = |name: &str| statuses.iter().filter(|status| **status == name).count();
    let requests = named(&own, "tool_call_requested");
    let principals: BTreeSet<_> = requests.iter().map(|request| principal(request)).collect();
    let tools: BTreeSet<_> = requests.iter().map(|request| request.data["tool"].as_str().unwrap()).collect();
    let tools: Vec<_> = tools.into_iter().map(|tool| session_tool(&own, tool)).collect();
    let newest = |event_type: &str, tool: Option<&str>, show: &dyn Fn(u64, &Envelope) -> Value| {
        let fitting = positioned.iter().rev().filter(|(_, event)| {
            event.event_type == event_type && tool.is_none_or(|tool| event.data["tool"] == tool) && event.data["cached"] != true
        });
        fitting.take(20).map(|(position, event)| show(*position, event)).collect::<Vec<_>>()
    };
    let count = |tool: &str| {
        named(&own, "tool_call_succeeded")
            .iter()
            .filter(|event| event.data["tool"] == tool && event.data["cached"] != true)
            .count()
    };
    let made = |member: &'static str| {
        move |position: u64, event: &Envelope| {
            json!({member: event.data["result"][member], "call_id": event.aggregate_id, "position": position.to_string(),
                "created_at": timestamp::format(&event.occurred_at)})
        }
    };
    let failed = |position: u64, event: &Envelope| {
        json!({"call_id": event.aggregate_id, "tool": event.data["tool"], "type": event.data["error"]["type"],
            "title": event.data["error"]["title"], "occurred_at": timestamp::format(&event.occurred_at),
            "position": position.to_string()})
    };
    let outcomes = outcomes_of(&own);
    Some(json!({
        "session_id": id, "principals": principals,
        "calls": {
            "total": calls.len(), "requested": standing("requested"), "running": standing("running"),
            "succeeded": standing("succeeded"), "failed": standing("failed"), "cancelled": standing("cancelled"),
        },
        "cached": outcomes["cached"], "attempts": outcomes["attempts"], "duration_ms": outcomes["duration_ms"],
        "artifact_count": count("document.render"), "task_count": count("task.create"),
        "first_at": timestamp::format(&first.1.occurred_at), "last_at": timestamp::format(&last.1.occurred_at),
        "first_position": first.0.to_string(), "position": last.0.to_string(),
        "tools": tools,
        "errors": newest("tool_call_failed", None, &failed),
        "artifacts": newest("tool_call_succeeded", Some("document.render"), &made("artifact_id")),
        "tasks": newest("tool_call_succeeded", Some("task.create"), &made("task_id")),
    }))
}

fn session_tool(own: &[&Envelope], tool: &str) -> Value {
    let own: Vec<_> = own.iter().copied().filter(|event| event.data["tool"] == tool).collect();
    let mut counts = outcomes_of(&own);
    let longest = runs(&own).iter().filter_map(|event| event.data["duration_ms"].as_u64()).max().unwrap_or(0);
    counts["tool"] = json!(tool);
    counts["calls"] = json!(named(&own, "tool_call_requested").len());
    counts["max_duration_ms"] = json!(longest.to_string());
    counts
}

/// The use of a tenant after these events, by day and tool, without latencies; those by the same key, sorted.
pub fn usage(events: &[Envelope]) -> (Vec<Value>, Vec<Vec<u64>>) {
    let mut by_key: BTreeMap<(String, String), Vec<&Envelope>> = BTreeMap::new();
    for (_, event) in understood(events) {
        if event.event_type != "tool_call_started" {
            let tool = event.data["tool"].as_str().unwrap_or_default().to_owned();
            by_key.entry((event.occurred_at.date_naive().to_string(), tool)).or_default().push(event);
        }
    }
    let items = by_key.iter().map(|((day, tool), own)| {
        let mut item = used(own);
        item["day"] = json!(day);
        item["tool"] = if tool.is_empty() { Value::Null } else { json!(tool) };
        item
    });
    (items.collect(), by_key.values().map(|own| durations(own)).collect())
}

/// What events of any day and tool add up to.
pub fn used(own: &[&Envelope]) -> Value {
    let bytes = |event_type: &str, member: &str| {
        named(own, event_type).iter().map(|event| canonical::to_string(&event.data[member]).len()).sum::<usize>().to_string()
    };
    let mut sums = outcomes_of(own);
    let more = json!({
        "requested": named(own, "tool_call_requested").len(), "retries": named(own, "tool_call_retried").len(),
        "denied": sum(&named(own, "tool_call_denied"), "refused"),
        "rate_limited": sum(&named(own, "rate_limit_exceeded"), "refused"),
        "bytes_in": bytes("tool_call_requested", "arguments"), "bytes_out": bytes("tool_call_succeeded", "result"),
    });
    sums.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sums
}

pub fn durations(own: &[&Envelope]) -> Vec<u64> {
    let mut durations: Vec<_> = runs(own).iter().filter_map(|event| event.data["duration_ms"].as_u64()).collect();
    durations.sort_unstable();
    durations
}

/// Checks quantiles against the durations that they are of: never less, and at most an eighth more.
pub fn assert_quantiles(shown: &Value, durations: &[u64], what: &str) {
    assert_eq!(shown["runs"], durations.len(), "{what}");
    for (name, percent) in [("p50", 50), ("p95", 95), ("p99", 99)] {
        let rank = (durations.len() * percent).div_ceil(100).max(1);
        let exact = durations.get(rank - 1).copied();
        let quantile = shown[name].as_u64();
        assert_eq!(quantile.is_some(), exact.is_some(), "{what}: {name}");
        if let (Some(quantile), Some(exact)) = (quantile, exact) {
            assert!((exact..=exact + exact / 8).contains(&quantile), "{what}: {name} is {quantile}, and was {exact}");
        }
    }
}
