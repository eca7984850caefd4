use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgExecutor, Row, postgres::PgRow};
use toolgate_events::{
    TenantId,
    audit::{self, AuditRow},
    canonical,
};
use toolgate_store::{Archive, SegmentName, archive};

use super::ArchiveError;
use crate::audit_row::unsigned;

/// A segment as the database lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: SegmentName,
    pub prev_hash: String,
    pub hash: String,
    pub size: u64,
    pub sha256: String,
}

impl Listed {
    /// A tenant's segments in the order of the trail.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn of(tenant: TenantId, database: impl PgExecutor<'_>) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as(
            "select tenant_id, first_position, last_position, prev_hash, hash, size, sha256 from audit_segment
             where tenant_id = $1 order by first_position",
        )
        .bind(tenant.0)
        .fetch_all(database)
        .await
    }

    /// What the object store holds of it, after its bytes, its rows and the chain through them were checked.
    ///
    /// # Errors
    /// [`ArchiveError::Store`] and [`ArchiveError::Damaged`]
    pub async fn rows(&self, store: &Archive) -> Result<Vec<AuditRow>, ArchiveError> {
        let name = self.name;
        let damaged = |reason: String| ArchiveError::Damaged { name, reason };
        let bytes = store.get(name, self.size + 1).await?;
        if canonical::hex(&Sha256::digest(&bytes)) != self.sha256 {
            return Err(damaged("its bytes are not those that were archived".to_owned()));
        }
        let count = name.last_position - name.first_position + 1;
        let rows = archive::unpack(&bytes, count).map_err(|error| damaged(error.to_string()))?;
        let (mut position, mut hash) = (name.first_position - 1, self.prev_hash.as_str());
        for row in &rows {
            audit::verify((position, hash), row).map_err(|error| damaged(error.to_string()))?;
            (position, hash) = (row.position, &row.hash);
        }
        if hash == self.hash { Ok(rows) } else { Err(damaged("it ends with another hash".to_owned())) }
    }
}

impl FromRow<'_, PgRow> for Listed {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let name = SegmentName {
            tenant: TenantId(row.try_get("tenant_id")?),
            first_position: unsigned(row, "first_position")?,
            last_position: unsigned(row, "last_position")?,
        };
        Ok(Self {
            name,
            prev_hash: row.try_get("prev_hash")?,
            hash: row.try_get("hash")?,
            size: unsigned(row, "size")?,
            sha256: row.try_get("sha256")?,
        })
    }
}
