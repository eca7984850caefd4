use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use toolgate_events::{Event, Status, ToolCall, ToolCallEvent, ToolCallRequested, canonical};

use super::signed;
use crate::batch::Numbered;

/// What a batch says of one call: from its request on, or without it.
struct Change<'a> {
    first: &'a Numbered,
    /// Present when the request itself is in the batch; it is then the first.
    requested: Option<&'a ToolCallRequested>,
    /// The fold of what the batch holds of the call.
    call: ToolCall,
    /// What is content is kept as it was recorded.
    arguments: Option<&'a Value>,
    result: Option<&'a Value>,
    error: Option<&'a Value>,
    finished_at: Option<DateTime<Utc>>,
    /// Of the last event that changed it.
    position: u64,
}

/// The calls as they stand: new ones are inserted in their latest state, known ones brought up to date.
///
/// The log holds what anybody appended to it, and the rows must not depend on where one batch ends: a second request changes nothing,
/// what comes before a request belongs to no call, and nothing follows an outcome.
pub async fn project(transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    let changes = fold(events);
    let (new, known): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.requested.is_some());
    update(transaction, &known).await?;
    if insert(transaction, &new, KEEP).await? < new.len() as u64 {
        // Some had been requested before. What follows their second request counts all the same.
        let later: Vec<_> = new.into_iter().filter(|change| change.position > change.first.row.position).collect();
        update(transaction, &later).await?;
    }
    Ok(())
}

/// The row of one call made anew of its first events, whatever it says now.
pub async fn refold(transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    let changes = fold(events);
    insert(transaction, &changes.iter().collect::<Vec<_>>(), REWRITE).await.map(drop)
}

/// At most two changes per call, the second from its request on, in the order the calls appear.
fn fold(events: &[Numbered]) -> Vec<Change<'_>> {
    let mut changes: Vec<Change<'_>> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for at in events {
        let Ok(Event::ToolCall(event)) = &at.event else { continue };
        let requested = match event {
            ToolCallEvent::ToolCallRequested(request) => Some(&**request),
            _ => None,
        };
        let known = places.get(&(at.tenant_id, at.row.aggregate_id)).copied();
        let place = match known {
            Some(place) if requested.is_some() && changes[place].requested.is_some() => continue,
            Some(place) if requested.is_none() => place,
            _ => {
                changes.push(Change {
                    first: at,
                    requested,
                    call: ToolCall::default(),
                    arguments: None,
                    result: None,
                    error: None,
                    finished_at: None,
                    position: 0,
                });
                places.insert((at.tenant_id, at.row.aggregate_id), changes.len() - 1);
                changes.len() - 1
            }
        };
        let change = &mut changes[place];
        // Nothing follows an outcome, in one batch as in two.
        if change.call.status.is_some_and(Status::is_final) {
            continue;
        }
        match event {
            ToolCallEvent::ToolCallRequested(_) => change.arguments = at.row.data.get("arguments"),
            ToolCallEvent::ToolCallSucceeded(_) => change.result = at.row.data.get("result"),
            ToolCallEvent::ToolCallFailed(_) => change.error = at.row.data.get("error"),
            _ => {}
        }
        change.call.evolve(event.clone());
        change.position = at.row.position;
        if event.is_outcome() {
            change.finished_at = Some(at.occurred_at());
        }
    }
    changes
}

macro_rules! column {
    ($changes:expr, $value:expr) => {
        $changes.iter().map($value).collect::<Vec<_>>()
    };
}

fn status(change: &Change<'_>) -> &'static str {
    change.call.status.unwrap_or(Status::Requested).as_str()
}

fn result(change: &Change<'_>) -> Option<String> {
    change.result.map(canonical::to_string)
}

fn error(change: &Change<'_>) -> Option<String> {
    change.error.map(Value::to_string)
}

fn attempts(change: &Change<'_>) -> i32 {
    i32::try_from(change.call.attempts).unwrap_or(i32::MAX)
}

/// A row that is there stays as it is: whoever asks for a call twice changes nothing.
const KEEP: &str = "nothing";
/// It is brought to what the events say; what was asked for stays.
const REWRITE: &str = "update set status = excluded.status, result = excluded.result, error = excluded.error,
     attempts = excluded.attempts, finished_at = excluded.finished_at, position = excluded.position, cached = excluded.cached,
     stale = excluded.stale";

/// Answers with how many were new indeed.
async fn insert(transaction: &mut PgConnection, new: &[&Change<'_>], on_conflict: &str) -> Result<u64, sqlx::Error> {
    let requests: Vec<_> = new.iter().filter_map(|change| Some((change, change.requested?))).collect();
    if requests.is_empty() {
        return Ok(0);
    }
    let statement = format!(
        "insert into tool_call (tenant_id, call_id, tool, lane, status, session_id, principal, arguments, options, result, error,
             attempts, requested_at, finished_at, requested_position, position, cached, stale, data_subject)
         select a, b, c, d, e, f, g, h::json, i::json, j::json, k::json, l, m, n, o, p, q, r, s
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
             $10::text[], $11::text[], $12::int[], $13::timestamptz[], $14::timestamptz[], $15::bigint[], $16::bigint[],
             $17::bool[], $18::bool[], $19::text[])
             as n (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s)
         on conflict (tenant_id, call_id) do {on_conflict}"
    );
    let inserted = sqlx::query(&statement)
        .bind(column!(requests, |(change, _)| change.first.tenant_id.0))
        .bind(column!(requests, |(change, _)| change.first.row.aggregate_id))
        .bind(column!(requests, |(_, request)| request.tool.as_str()))
        .bind(column!(requests, |(_, request)| request.lane.as_str()))
        .bind(column!(requests, |(change, _)| status(change)))
        .bind(column!(requests, |(_, request)| request.session_id.as_deref()))
        .bind(column!(requests, |(_, request)| request.authorization.principal.as_str()))
        .bind(column!(requests, |(change, _)| change.arguments.map(Value::to_string).unwrap_or_default()))
        .bind(column!(requests, |(_, request)| serde_json::to_string(&request.options).unwrap_or_default()))
        .bind(column!(requests, |(change, _)| result(change)))
        .bind(column!(requests, |(change, _)| error(change)))
        .bind(column!(requests, |(change, _)| attempts(change)))
        .bind(column!(requests, |(change, _)| change.first.occurred_at()))
        .bind(column!(requests, |(change, _)| change.finished_at))
        .bind(column!(requests, |(change, _)| signed(change.first.row.position)))
        .bind(column!(requests, |(change, _)| signed(change.position)))
        .bind(column!(requests, |(change, _)| change.call.cached))
        .bind(column!(requests, |(change, _)| change.call.stale))
        .bind(column!(requests, |(_, request)| request.data_subject.as_deref()))
        .execute(transaction)
        .await?;
    Ok(inserted.rows_affected())
}

async fn update(transaction: &mut PgConnection, known: &[&Change<'_>]) -> Result<(), sqlx::Error> {
    if known.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update tool_call t
         set status = n.status, result = n.result::json, error = n.error::json, attempts = greatest(t.attempts, n.attempts),
             finished_at = n.finished_at, position = n.position, cached = n.cached, stale = n.stale
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::timestamptz[], $8::bigint[],
             $9::bool[], $10::bool[])
             as n (tenant_id, call_id, status, result, error, attempts, finished_at, position, cached, stale)
         where t.tenant_id = n.tenant_id and t.call_id = n.call_id and t.position < n.position and t.finished_at is null",
    )
    .bind(column!(known, |change| change.first.tenant_id.0))
    .bind(column!(known, |change| change.first.row.aggregate_id))
    .bind(column!(known, |change| status(change)))
    .bind(column!(known, |change| result(change)))
    .bind(column!(known, |change| error(change)))
    .bind(column!(known, |change| attempts(change)))
    .bind(column!(known, |change| change.finished_at))
    .bind(column!(known, |change| signed(change.position)))
    .bind(column!(known, |change| change.call.cached))
    .bind(column!(known, |change| change.call.stale))
    .execute(transaction)
    .await?;
    Ok(())
}
