use chrono::{DateTime, Utc};
use sqlx::{FromRow, Row, postgres::PgRow};
use toolgate_security::TenantTx;
use uuid::Uuid;

use super::{bigint, unsigned};
use crate::Error;

/// A task as its last outcome left it.
#[derive(Debug)]
pub(crate) struct TaskRow {
    pub task_id: Uuid,
    pub call_id: Uuid,
    pub title: String,
    pub description: Option<String>,
    pub assignee: Option<String>,
    pub due: Option<DateTime<Utc>>,
    pub labels: Vec<String>,
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub position: u64,
}

impl FromRow<'_, PgRow> for TaskRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            task_id: row.try_get("task_id")?,
            call_id: row.try_get("call_id")?,
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            assignee: row.try_get("assignee")?,
            due: row.try_get("due")?,
            labels: row.try_get("labels")?,
            status: row.try_get("status")?,
            created_at: row.try_get("created_at")?,
            position: unsigned(row, "position")?,
        })
    }
}

/// The newest tasks before a position.
pub(crate) async fn page(tx: &mut TenantTx, before: u64, limit: usize) -> Result<Vec<TaskRow>, Error> {
    let tasks = sqlx::query_as(
        "select task_id, call_id, title, description, assignee, due, labels, status, created_at, position
         from task where position < $1 order by position desc limit $2",
    )
    .bind(bigint(before))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut **tx)
    .await?;
    Ok(tasks)
}
