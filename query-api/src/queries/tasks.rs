use chrono::{DateTime, Utc};
use sqlx::{FromRow, Postgres, QueryBuilder, Row, postgres::PgRow};
use toolgate_events::task::TaskStatus;
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
    pub version: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub position: u64,
    pub updated_position: u64,
}

/// Which tasks; the default is all.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskFilter {
    pub status: Option<TaskStatus>,
    pub assignee: Option<String>,
    pub label: Option<String>,
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
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            position: unsigned(row, "position")?,
            updated_position: unsigned(row, "updated_position")?,
        })
    }
}

/// The newest tasks created before a position. A change moves no task: the order is that of their creation.
pub(crate) async fn page(tx: &mut TenantTx, filter: &TaskFilter, before: u64, limit: usize) -> Result<Vec<TaskRow>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select task_id, call_id, title, description, assignee, due, labels, status, version, created_at, position,
             coalesce(updated_at, created_at) as updated_at, coalesce(updated_position, position) as updated_position
         from task where position < ",
    );
    query.push_bind(bigint(before));
    if let Some(status) = filter.status {
        query.push(" and status = ").push_bind(status.as_str());
    }
    if let Some(assignee) = &filter.assignee {
        query.push(" and assignee = ").push_bind(assignee.clone());
    }
    if let Some(label) = &filter.label {
        query.push(" and ").push_bind(label.clone()).push(" = any (labels)");
    }
    query.push(" order by position desc limit ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}
