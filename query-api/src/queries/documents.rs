use chrono::{DateTime, Utc};
use sqlx::{FromRow, Row, postgres::PgRow};
use toolgate_security::TenantTx;
use uuid::Uuid;

use super::{bigint, unsigned};
use crate::Error;

/// A rendered document; its bytes are an artifact.
#[derive(Debug)]
pub(crate) struct DocumentRow {
    pub artifact_id: Uuid,
    pub call_id: Uuid,
    pub title: String,
    pub content_type: String,
    pub size: u64,
    pub sha256: String,
    pub created_at: DateTime<Utc>,
    pub position: u64,
}

impl FromRow<'_, PgRow> for DocumentRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            artifact_id: row.try_get("artifact_id")?,
            call_id: row.try_get("call_id")?,
            title: row.try_get("title")?,
            content_type: row.try_get("content_type")?,
            size: unsigned(row, "size")?,
            sha256: row.try_get("sha256")?,
            created_at: row.try_get("created_at")?,
            position: unsigned(row, "position")?,
        })
    }
}

pub(crate) async fn find(tx: &mut TenantTx, artifact: Uuid) -> Result<Option<DocumentRow>, Error> {
    let found = sqlx::query_as(
        "select artifact_id, call_id, title, content_type, size, sha256, created_at, position from document where artifact_id = $1",
    )
    .bind(artifact)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found)
}

/// The newest documents before a position.
pub(crate) async fn page(tx: &mut TenantTx, before: u64, limit: usize) -> Result<Vec<DocumentRow>, Error> {
    let documents = sqlx::query_as(
        "select artifact_id, call_id, title, content_type, size, sha256, created_at, position
         from document where position < $1 order by position desc limit $2",
    )
    .bind(bigint(before))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut **tx)
    .await?;
    Ok(documents)
}
