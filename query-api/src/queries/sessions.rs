use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Row, postgres::PgRow, types::Json};
use toolgate_events::{CallCounts, CallId, Session};
use toolgate_security::TenantTx;
use uuid::Uuid;

use super::{bigint, unsigned};
use crate::Error;

/// How many of the newest failures, artifacts and tasks a session shows.
pub(crate) const LISTED: usize = 20;

const COLUMNS: &str = "session_id, first_position, first_at, position, last_at, principals, calls, running, succeeded, failed, \
     cancelled, cached, attempts, artifacts, tasks, duration_ms";

/// A session with what its page shows besides. The lists are newest first.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub session: Session,
    pub errors: VecDeque<Failure>,
    pub artifacts: VecDeque<Made>,
    pub tasks: VecDeque<Made>,
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub call_id: CallId,
    pub tool: String,
    pub kind: String,
    pub title: String,
    pub at: DateTime<Utc>,
    pub position: u64,
}

/// Something that a call made.
#[derive(Debug)]
pub(crate) struct Made {
    pub id: Uuid,
    pub call_id: CallId,
    pub at: DateTime<Utc>,
    pub position: u64,
}

/// The sessions with the newest activity before a position, without their tools.
pub(crate) async fn page(tx: &mut TenantTx, before: u64, limit: usize) -> Result<Vec<(String, Session)>, Error> {
    let query = format!("select {COLUMNS} from session where position < $1 order by position desc limit $2");
    let rows = sqlx::query(&query).bind(bigint(before)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok(rows.try_map(|row: PgRow| Ok((row.try_get("session_id")?, session(&row)?))).fetch_all(&mut **tx).await?)
}

/// A session without its tools.
pub(crate) async fn find(tx: &mut TenantTx, id: &str) -> Result<Option<Session>, Error> {
    let query = format!("select {COLUMNS} from session where session_id = $1");
    Ok(sqlx::query(&query).bind(id).try_map(|row: PgRow| session(&row)).fetch_optional(&mut **tx).await?)
}

/// A session with all that its page shows.
pub(crate) async fn tell(tx: &mut TenantTx, id: &str) -> Result<Option<Told>, Error> {
    let Some(mut session) = find(tx, id).await? else { return Ok(None) };
    let tools = sqlx::query(
        "select tool, calls, succeeded, failed, cancelled, cached, attempts, duration_ms, max_duration_ms
         from session_tool where session_id = $1",
    );
    let tools =
        tools.bind(id).try_map(|row: PgRow| Ok((row.try_get("tool")?, counts(&row, unsigned(&row, "max_duration_ms")?)?)));
    session.tools = tools.fetch_all(&mut **tx).await?.into_iter().collect();
    let made = |table: &str, key: &str| {
        format!(
            "select m.{key} as id, m.call_id, m.created_at as at, m.position
             from {table} m join tool_call c on c.tenant_id = m.tenant_id and c.call_id = m.call_id
             where c.session_id = $1 order by m.position desc limit $2"
        )
    };
    Ok(Some(Told {
        errors: failures(tx, id).await?,
        artifacts: list(tx, &made("document", "artifact_id"), id).await?,
        tasks: list(tx, &made("task", "task_id"), id).await?,
        session,
    }))
}

async fn failures(tx: &mut TenantTx, id: &str) -> Result<VecDeque<Failure>, Error> {
    let query = sqlx::query(
        "select call_id, tool, error, finished_at, position from tool_call
         where session_id = $1 and status = 'failed' order by position desc limit $2",
    );
    let failure = |row: PgRow| {
        // Its detail is content, and stays where it is.
        let Json(error): Json<Value> = row.try_get("error")?;
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        Ok(Failure {
            call_id: CallId(row.try_get("call_id")?),
            tool: row.try_get("tool")?,
            kind: text("type"),
            title: text("title"),
            at: row.try_get("finished_at")?,
            position: unsigned(&row, "position")?,
        })
    };
    Ok(query.bind(id).bind(limit()).try_map(failure).fetch_all(&mut **tx).await?.into())
}

async fn list(tx: &mut TenantTx, query: &str, id: &str) -> Result<VecDeque<Made>, Error> {
    let made = |row: PgRow| {
        let call_id = CallId(row.try_get("call_id")?);
        Ok(Made { id: row.try_get("id")?, call_id, at: row.try_get("at")?, position: unsigned(&row, "position")? })
    };
    Ok(sqlx::query(query).bind(id).bind(limit()).try_map(made).fetch_all(&mut **tx).await?.into())
}

fn limit() -> i64 {
    i64::try_from(LISTED).unwrap_or(i64::MAX)
}

fn session(row: &PgRow) -> Result<Session, sqlx::Error> {
    Ok(Session {
        first_position: unsigned(row, "first_position")?,
        first_at: row.try_get("first_at")?,
        position: unsigned(row, "position")?,
        last_at: row.try_get("last_at")?,
        principals: row.try_get::<Vec<String>, _>("principals")?.into_iter().collect(),
        total: counts(row, 0)?,
        running: row.try_get("running")?,
        artifacts: unsigned(row, "artifacts")?,
        tasks: unsigned(row, "tasks")?,
        ..Session::default()
    })
}

fn counts(row: &PgRow, max_duration_ms: u64) -> Result<CallCounts, sqlx::Error> {
    Ok(CallCounts {
        calls: unsigned(row, "calls")?,
        succeeded: unsigned(row, "succeeded")?,
        failed: unsigned(row, "failed")?,
        cancelled: unsigned(row, "cancelled")?,
        cached: unsigned(row, "cached")?,
        attempts: unsigned(row, "attempts")?,
        duration_ms: unsigned(row, "duration_ms")?,
        max_duration_ms,
    })
}
