use sqlx::{FromRow, Row, postgres::PgRow};
use toolgate_events::task::{Task, TaskStatus};

/// A task as the read model has it.
pub struct TaskRow(pub Task);

impl FromRow<'_, PgRow> for TaskRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let version: i32 = row.try_get("version")?;
        Ok(Self(Task {
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            assignee: row.try_get("assignee")?,
            due: row.try_get("due")?,
            labels: row.try_get("labels")?,
            status: status(row, "status")?,
            version: version.unsigned_abs(),
        }))
    }
}

pub fn status(row: &PgRow, column: &str) -> Result<TaskStatus, sqlx::Error> {
    let word: String = row.try_get(column)?;
    let unknown = || sqlx::Error::ColumnDecode { index: column.to_owned(), source: format!("{word:?} is no status").into() };
    TaskStatus::of(&word).ok_or_else(unknown)
}
