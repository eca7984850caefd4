//! Sessions are sums. Each event adds to its session what it says, once: it got its position once (`batch::number`), and the sums
//! commit with its audit row. So there is nothing here to guard, and a batch that is lost with its transaction is added again whole.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;
use toolgate_events::{CallCounts, Event, Session, Status, ToolCallEvent};
use uuid::Uuid;

use super::signed;
use crate::batch::Numbered;

/// A call as the events before tell it: whose session it belongs to, and where it stands.
struct Call {
    session_id: Option<String>,
    status: Status,
}

/// The calls that a batch tells of and that were there before it.
pub struct Calls(HashMap<(Uuid, Uuid), Call>);

/// To be read before the calls are projected: what an event adds depends on where its call stood.
pub async fn calls(transaction: &mut PgConnection, events: &[Numbered]) -> Result<Calls, sqlx::Error> {
    let told: Vec<_> = events.iter().filter(|at| matches!(at.event, Ok(Event::ToolCall(_)))).collect();
    if told.is_empty() {
        return Ok(Calls(HashMap::new()));
    }
    let rows: Vec<(Uuid, Uuid, Option<String>, String)> = sqlx::query_as(
        "select tenant_id, call_id, session_id, status from tool_call
         where (tenant_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))",
    )
    .bind(told.iter().map(|at| at.tenant_id.0).collect::<Vec<_>>())
    .bind(told.iter().map(|at| at.row.aggregate_id).collect::<Vec<_>>())
    .fetch_all(transaction)
    .await?;
    let known = rows.into_iter().filter_map(|(tenant, call, session_id, status)| {
        Some(((tenant, call), Call { session_id, status: Status::named(&status)? }))
    });
    Ok(Calls(known.collect()))
}

/// The same of one call, as some of its events tell it from the first on.
pub fn call_of<'a>(events: impl Iterator<Item = &'a Numbered>) -> Calls {
    let mut calls = Calls(HashMap::new());
    fold(events, &mut calls);
    calls
}

/// Adds a batch to the sessions. What is no part of its call is none of the session.
pub async fn project(transaction: &mut PgConnection, events: &[Numbered], mut calls: Calls) -> Result<(), sqlx::Error> {
    let sessions = fold(events.iter(), &mut calls);
    if sessions.is_empty() {
        return Ok(());
    }
    add_sessions(transaction, &sessions).await?;
    let tools: Vec<_> = sessions
        .iter()
        .flat_map(|((tenant, id), session)| {
            session.tools.iter().map(move |(tool, counts)| ToolSum { tenant: *tenant, session_id: id, tool, counts })
        })
        .collect();
    add_tools(transaction, &tools).await
}

/// What a batch adds to each session, in an order that is the same for everybody who writes sessions: nobody waits in a circle.
fn fold<'a>(events: impl Iterator<Item = &'a Numbered>, Calls(calls): &mut Calls) -> BTreeMap<(Uuid, String), Session> {
    let mut sessions: BTreeMap<(Uuid, String), Session> = BTreeMap::new();
    for at in events {
        let Ok(Event::ToolCall(event)) = &at.event else { continue };
        let key = (at.tenant_id.0, at.row.aggregate_id);
        let before = calls.get(&key).map(|call| call.status);
        let session_id = match (calls.get(&key), event) {
            (Some(call), _) => call.session_id.clone(),
            (None, ToolCallEvent::ToolCallRequested(requested)) => requested.session_id.clone(),
            (None, _) => continue,
        };
        let mut nobodys = Session::default();
        let session = match session_id.as_ref().filter(|id| Session::is_id(id)) {
            Some(id) => sessions.entry((at.tenant_id.0, id.clone())).or_default(),
            None => &mut nobodys,
        };
        if let Some(status) = session.add(at.row.position, at.occurred_at(), before, event) {
            calls.insert(key, Call { session_id, status });
        }
    }
    // An event that changes nothing leaves an empty sum behind.
    sessions.retain(|_, session| session.first_position > 0);
    sessions
}

macro_rules! column {
    ($rows:expr, $value:expr) => {
        $rows.iter().map($value).collect::<Vec<_>>()
    };
}

async fn add_sessions(transaction: &mut PgConnection, sessions: &BTreeMap<(Uuid, String), Session>) -> Result<(), sqlx::Error> {
    let principals = |session: &Session| serde_json::to_string(&session.principals).unwrap_or_default();
    sqlx::query(
        r#"insert into session as s (tenant_id, session_id, first_position, first_at, position, last_at, principals, calls, running,
             succeeded, failed, cancelled, cached, attempts, artifacts, tasks, duration_ms)
         select a, b, c, d, e, f, array(select name from json_array_elements_text(g::json) e (name) order by name collate "C"),
             h, i, j, k, l, m, n, o, p, q
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::timestamptz[], $7::text[], $8::bigint[],
             $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
             $17::bigint[]) as n (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q)
         on conflict (tenant_id, session_id) do update set
             first_position = least(s.first_position, excluded.first_position),
             first_at = case when excluded.first_position < s.first_position then excluded.first_at else s.first_at end,
             position = greatest(s.position, excluded.position),
             last_at = case when excluded.position > s.position then excluded.last_at else s.last_at end,
             principals = case when s.principals @> excluded.principals then s.principals else
                 array(
                 select distinct name collate "C" from unnest(s.principals || excluded.principals) e (name) order by 1 limit $18) end,
             calls = s.calls + excluded.calls, running = s.running + excluded.running,
             succeeded = s.succeeded + excluded.succeeded, failed = s.failed + excluded.failed,
             cancelled = s.cancelled + excluded.cancelled, cached = s.cached + excluded.cached,
             attempts = s.attempts + excluded.attempts, artifacts = s.artifacts + excluded.artifacts,
             tasks = s.tasks + excluded.tasks, duration_ms = s.duration_ms + excluded.duration_ms"#,
    )
    .bind(column!(sessions, |((tenant, _), _)| *tenant))
    .bind(column!(sessions, |((_, id), _)| id.as_str()))
    .bind(column!(sessions, |(_, session)| signed(session.first_position)))
    .bind(column!(sessions, |(_, session)| session.first_at))
    .bind(column!(sessions, |(_, session)| signed(session.position)))
    .bind(column!(sessions, |(_, session)| session.last_at))
    .bind(column!(sessions, |(_, session)| principals(session)))
    .bind(column!(sessions, |(_, session)| signed(session.total.calls)))
    .bind(column!(sessions, |(_, session)| session.running))
    .bind(column!(sessions, |(_, session)| signed(session.total.succeeded)))
    .bind(column!(sessions, |(_, session)| signed(session.total.failed)))
    .bind(column!(sessions, |(_, session)| signed(session.total.cancelled)))
    .bind(column!(sessions, |(_, session)| signed(session.total.cached)))
    .bind(column!(sessions, |(_, session)| signed(session.total.attempts)))
    .bind(column!(sessions, |(_, session)| signed(session.artifacts)))
    .bind(column!(sessions, |(_, session)| signed(session.tasks)))
    .bind(column!(sessions, |(_, session)| signed(session.total.duration_ms)))
    .bind(i64::try_from(Session::MAX_PRINCIPALS).unwrap_or(i64::MAX))
    .execute(transaction)
    .await?;
    Ok(())
}

/// What a batch adds to one tool of one session.
struct ToolSum<'a> {
    tenant: Uuid,
    session_id: &'a str,
    tool: &'a str,
    counts: &'a CallCounts,
}

async fn add_tools(transaction: &mut PgConnection, tools: &[ToolSum<'_>]) -> Result<(), sqlx::Error> {
    if tools.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into session_tool as s (tenant_id, session_id, tool, calls, succeeded, failed, cancelled, cached, attempts, duration_ms,
             max_duration_ms)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
             $9::bigint[], $10::bigint[], $11::bigint[])
         on conflict (tenant_id, session_id, tool) do update set
             calls = s.calls + excluded.calls, succeeded = s.succeeded + excluded.succeeded, failed = s.failed + excluded.failed,
             cancelled = s.cancelled + excluded.cancelled, cached = s.cached + excluded.cached,
             attempts = s.attempts + excluded.attempts, duration_ms = s.duration_ms + excluded.duration_ms,
             max_duration_ms = greatest(s.max_duration_ms, excluded.max_duration_ms)",
    )
    .bind(column!(tools, |sum| sum.tenant))
    .bind(column!(tools, |sum| sum.session_id))
    .bind(column!(tools, |sum| sum.tool))
    .bind(column!(tools, |sum| signed(sum.counts.calls)))
    .bind(column!(tools, |sum| signed(sum.counts.succeeded)))
    .bind(column!(tools, |sum| signed(sum.counts.failed)))
    .bind(column!(tools, |sum| signed(sum.counts.cancelled)))
    .bind(column!(tools, |sum| signed(sum.counts.cached)))
    .bind(column!(tools, |sum| signed(sum.counts.attempts)))
    .bind(column!(tools, |sum| signed(sum.counts.duration_ms)))
    .bind(column!(tools, |sum| signed(sum.counts.max_duration_ms)))
    .execute(transaction)
    .await?;
    Ok(())
}
