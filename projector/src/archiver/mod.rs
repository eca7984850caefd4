//! Old stretches of the audit trail move from the table into compressed segments in the object store.
//!
//! A segment is written, read back, verified and listed, in this order, and only then do its rows leave the table. Wherever that
//! stops, the trail is whole: readers take from the archive what is listed and from the table what is not, and the next run goes
//! on from there.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};
use toolgate_events::{
    TenantId,
    audit::{self, AuditRow, ChainError},
    canonical,
};
use toolgate_store::{Archive, ArtifactError, SegmentName, archive, crash};
use uuid::Uuid;

use crate::{
    audit_row::{COLUMNS, TrailRow, unsigned},
    projections::signed,
};

/// Bytes of data in one segment at the most, before they are compressed.
const MAX_DATA: usize = 32 * 1024 * 1024;
/// How long readers and the projector may hold up the moment in which rows leave the table.
const LOCK_TIMEOUT: &str = "5s";

/// Moves rows into the archive.
#[derive(Clone, Debug)]
pub struct Archiver {
    pub archive: Archive,
    /// Connections of the projector role, which sees all tenants.
    pub rows: PgPool,
    /// Connections of the owner, who alone can take rows out of the trail.
    pub owner: PgPool,
    /// Rows in one segment at the most.
    pub segment_rows: usize,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    pub segments: u64,
    pub rows: u64,
}

/// Why a trail was not archived any further, or does not verify.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the archive: {0}")]
    Store(#[from] ArtifactError),
    #[error("a segment cannot be packed: {0}")]
    Pack(#[source] std::io::Error),
    #[error("the segment {name} is damaged: {reason}")]
    Damaged { name: SegmentName, reason: String },
    #[error("the audit trail of tenant {tenant} does not verify, and is left as it is: {source}")]
    Chain { tenant: TenantId, source: ChainError },
}

/// A segment as the database lists it.
struct Listed {
    name: SegmentName,
    prev_hash: String,
    hash: String,
    size: u64,
    sha256: String,
}

impl Archiver {
    /// The tenants that have a trail.
    ///
    /// # Errors
    /// [`ArchiveError::Database`]
    pub async fn tenants(&self) -> Result<Vec<TenantId>, ArchiveError> {
        // One step of the index for each tenant, not one for each row.
        let tenants: Vec<Uuid> = sqlx::query_scalar(
            "with recursive tenant (id) as (
                 (select tenant_id from audit_event order by tenant_id limit 1)
                 union all
                 select (select tenant_id from audit_event a where a.tenant_id > tenant.id order by tenant_id limit 1)
                 from tenant where tenant.id is not null
             )
             select id from tenant where id is not null",
        )
        .fetch_all(&self.rows)
        .await?;
        Ok(tenants.into_iter().map(TenantId).collect())
    }

    /// Archives what occurred before a time, from the beginning of the trail up to the first row that did not. The newest row
    /// stays in the table: the chain goes on from it.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was archived until then is archived, and nothing is lost.
    pub async fn archive(&self, tenant: TenantId, before: DateTime<Utc>) -> Result<Archived, ArchiveError> {
        let mut archived = Archived::default();
        let mut last = self.last(tenant).await?;
        // An earlier run may have ended between the list and the table.
        if let Some(listed) = &last {
            self.verify_segment(listed).await?;
            self.drop_rows(tenant, listed.name.last_position).await?;
        }
        let genesis = audit::genesis_hash(tenant);
        loop {
            let (position, hash) = last.as_ref().map_or((0, genesis.as_str()), |last| (last.name.last_position, &last.hash));
            let rows = self.next_rows(tenant, (position, hash), before).await?;
            if rows.is_empty() {
                return Ok(archived);
            }
            let listed = self.store(tenant, &rows).await?;
            crash::point("archive.listed");
            self.drop_rows(tenant, listed.name.last_position).await?;
            archived = Archived { segments: archived.segments + 1, rows: archived.rows + rows.len() as u64 };
            last = Some(listed);
        }
    }

    /// Checks every segment of a tenant, that each continues the one before, and that the table continues the last. Answers with the
    /// number of archived rows.
    ///
    /// # Errors
    /// [`ArchiveError`] naming what does not fit.
    pub async fn verify(&self, tenant: TenantId) -> Result<u64, ArchiveError> {
        let (mut position, mut hash) = (0, audit::genesis_hash(tenant));
        for listed in self.listed(tenant).await? {
            let name = listed.name;
            if name.first_position != position + 1 || listed.prev_hash != hash {
                let reason = format!("it does not continue the trail at position {position}");
                return Err(ArchiveError::Damaged { name, reason });
            }
            self.verify_segment(&listed).await?;
            (position, hash) = (name.last_position, listed.hash);
        }
        let select = format!("select {COLUMNS} from audit_event where tenant_id = $1 and position = $2");
        let next: Option<TrailRow> =
            sqlx::query_as(&select).bind(tenant.0).bind(signed(position + 1)).fetch_optional(&self.rows).await?;
        if let Some(TrailRow(next)) = next {
            audit::verify((position, &hash), &next).map_err(|source| ArchiveError::Chain { tenant, source })?;
        }
        Ok(position)
    }

    /// The rows of the next segment, verified; none where nothing is old enough.
    async fn next_rows(
        &self,
        tenant: TenantId,
        (position, hash): (u64, &str),
        before: DateTime<Utc>,
    ) -> Result<Vec<AuditRow>, ArchiveError> {
        let select = format!(
            "select {COLUMNS} from audit_event a
             where a.tenant_id = $1 and a.position > $2
               and a.position < (select max(position) from audit_event where tenant_id = $1)
             order by a.position limit $3"
        );
        let limit = i64::try_from(self.segment_rows).unwrap_or(i64::MAX);
        let rows: Vec<TrailRow> =
            sqlx::query_as(&select).bind(tenant.0).bind(signed(position)).bind(limit).fetch_all(&self.rows).await?;
        let (mut segment, mut data): (Vec<AuditRow>, usize) = (Vec::new(), 0);
        for TrailRow(row) in rows {
            data += canonical::to_string(&row.data).len();
            if row.occurred_at >= before || (data > MAX_DATA && !segment.is_empty()) {
                break;
            }
            let link = segment.last().map_or((position, hash), |last| (last.position, last.hash.as_str()));
            audit::verify(link, &row).map_err(|source| ArchiveError::Chain { tenant, source })?;
            segment.push(row);
        }
        Ok(segment)
    }

    /// Writes a segment, reads it back, and lists it.
    async fn store(&self, tenant: TenantId, rows: &[AuditRow]) -> Result<Listed, ArchiveError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Err(sqlx::Error::RowNotFound.into()) };
        let bytes = archive::pack(rows).map_err(ArchiveError::Pack)?;
        let listed = Listed {
            name: SegmentName { tenant, first_position: first.position, last_position: last.position },
            prev_hash: first.prev_hash.clone(),
            hash: last.hash.clone(),
            size: bytes.len() as u64,
            sha256: canonical::hex(&Sha256::digest(&bytes)),
        };
        self.archive.put(listed.name, &bytes).await?;
        crash::point("archive.stored");
        self.verify_segment(&listed).await?;
        sqlx::query(
            "insert into audit_segment (tenant_id, first_position, last_position, prev_hash, hash, first_occurred_at, last_occurred_at,
                 size, sha256)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(tenant.0)
        .bind(signed(first.position))
        .bind(signed(last.position))
        .bind(&listed.prev_hash)
        .bind(&listed.hash)
        // Times may run backwards by what the clocks differ.
        .bind(rows.iter().map(|row| row.occurred_at).min())
        .bind(rows.iter().map(|row| row.occurred_at).max())
        .bind(signed(listed.size))
        .bind(&listed.sha256)
        .execute(&self.rows)
        .await?;
        Ok(listed)
    }

    /// Checks what the object store holds: the bytes, the rows, and the chain through them.
    async fn verify_segment(&self, listed: &Listed) -> Result<(), ArchiveError> {
        let name = listed.name;
        let damaged = |reason: String| ArchiveError::Damaged { name, reason };
        let bytes = self.archive.get(name, listed.size + 1).await?;
        if canonical::hex(&Sha256::digest(&bytes)) != listed.sha256 {
            return Err(damaged("its bytes are not those that were archived".to_owned()));
        }
        let count = name.last_position - name.first_position + 1;
        let rows = archive::unpack(&bytes, count).map_err(|error| damaged(error.to_string()))?;
        let (mut position, mut hash) = (name.first_position - 1, listed.prev_hash.as_str());
        for row in &rows {
            audit::verify((position, hash), row).map_err(|error| damaged(error.to_string()))?;
            (position, hash) = (row.position, &row.hash);
        }
        if hash == listed.hash { Ok(()) } else { Err(damaged("it ends with another hash".to_owned())) }
    }

    /// Takes the rows up to a position out of the table. Nobody else can: the owner lifts the protection within one transaction, in
    /// which nobody reads or writes the table.
    async fn drop_rows(&self, tenant: TenantId, up_to: u64) -> Result<(), ArchiveError> {
        let mut transaction = self.owner.begin().await?;
        sqlx::query("select set_config('lock_timeout', $1, true)").bind(LOCK_TIMEOUT).execute(&mut *transaction).await?;
        sqlx::raw_sql(
            "alter table audit_event no force row level security;
             alter table audit_event disable trigger audit_event_append_only",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from audit_event where tenant_id = $1 and position <= $2")
            .bind(tenant.0)
            .bind(signed(up_to))
            .execute(&mut *transaction)
            .await?;
        sqlx::raw_sql(
            "alter table audit_event enable trigger audit_event_append_only;
             alter table audit_event force row level security",
        )
        .execute(&mut *transaction)
        .await?;
        crash::point("archive.dropping");
        Ok(transaction.commit().await?)
    }

    async fn last(&self, tenant: TenantId) -> Result<Option<Listed>, ArchiveError> {
        Ok(self.listed(tenant).await?.pop())
    }

    async fn listed(&self, tenant: TenantId) -> Result<Vec<Listed>, ArchiveError> {
        let listed = sqlx::query_as(
            "select tenant_id, first_position, last_position, prev_hash, hash, size, sha256 from audit_segment
             where tenant_id = $1 order by first_position",
        )
        .bind(tenant.0)
        .fetch_all(&self.rows)
        .await?;
        Ok(listed)
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
