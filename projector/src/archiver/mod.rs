//! Old stretches of the audit trail move from the table into compressed segments in the object store.
//!
//! A segment is written, read back, verified and listed, in this order, and only then do its rows leave the table. Wherever that
//! stops, the trail is whole: readers take from the archive what is listed and from the table what is not, and the next run goes
//! on from there.

mod segment;

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use toolgate_events::{
    TenantId,
    audit::{self, AuditRow, ChainError},
    canonical,
};
use toolgate_store::{Archive, ArtifactError, SegmentName, archive, crash};
use uuid::Uuid;

pub(crate) use self::segment::Listed;
use crate::{
    audit_row::{COLUMNS, TrailRow},
    projections::signed,
    rebuild::is_not_now,
};

/// Bytes of data in one segment at the most, before they are compressed.
const MAX_DATA: usize = 32 * 1024 * 1024;
/// How long the moment in which rows leave the table is waited for. Whoever reads or writes the table meanwhile waits behind, so it
/// is short, and tried again.
const LOCK_TIMEOUT: &str = "500ms";
const ATTEMPTS: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

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
    #[error("the audit trail is in use by a long transaction; what is archived is still in the table, try again")]
    Busy,
    #[error("the audit trail of tenant {tenant} does not verify, and is left as it is: {source}")]
    Chain { tenant: TenantId, source: ChainError },
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
        let segments = self.listed(tenant).await?;
        // An earlier run may have ended between the list and the table.
        let first = self.first_in_table(tenant).await?;
        for listed in segments.iter().filter(|listed| first.is_some_and(|first| first <= listed.name.last_position)) {
            listed.rows(&self.archive).await?;
            self.drop_rows(tenant, listed.name.last_position).await?;
        }
        let mut last = segments.into_iter().next_back();
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
            listed.rows(&self.archive).await?;
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

    /// What the bucket holds and nobody lists: of a tenant, or of all of them. A run that ends before a segment is listed leaves it behind.
    ///
    /// # Errors
    /// [`ArchiveError`]
    pub async fn strangers(&self, tenant: Option<TenantId>) -> Result<Vec<String>, ArchiveError> {
        // First, so that what is listed meanwhile is no stranger.
        let mut names = self.archive.names().await?;
        let listed: Vec<(Uuid, i64, i64)> =
            sqlx::query_as("select tenant_id, first_position, last_position from audit_segment").fetch_all(&self.rows).await?;
        let listed: HashSet<_> = listed
            .into_iter()
            .map(|(tenant, first, last)| {
                let (first_position, last_position) = (first.unsigned_abs(), last.unsigned_abs());
                SegmentName { tenant: TenantId(tenant), first_position, last_position }.to_string()
            })
            .collect();
        names.retain(|name| !listed.contains(name) && tenant.is_none_or(|tenant| name.starts_with(&tenant.to_string())));
        names.sort_unstable();
        Ok(names)
    }

    async fn listed(&self, tenant: TenantId) -> Result<Vec<Listed>, ArchiveError> {
        Ok(Listed::of(tenant, &self.rows).await?)
    }

    /// The first position whose row is still in the table.
    async fn first_in_table(&self, tenant: TenantId) -> Result<Option<u64>, ArchiveError> {
        let first: Option<i64> = sqlx::query_scalar("select min(position) from audit_event where tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(&self.rows)
            .await?;
        Ok(first.map(i64::unsigned_abs))
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
        listed.rows(&self.archive).await?;
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

    /// Takes the rows up to a position out of the table. Nobody else can: the owner lifts the protection within one transaction, in
    /// which nobody reads or writes the table.
    async fn drop_rows(&self, tenant: TenantId, up_to: u64) -> Result<(), ArchiveError> {
        for _ in 0..ATTEMPTS {
            match self.try_to_drop_rows(tenant, up_to).await {
                Err(error) if is_not_now(&error) => tokio::time::sleep(PAUSE).await,
                outcome => return Ok(outcome?),
            }
        }
        Err(ArchiveError::Busy)
    }

    async fn try_to_drop_rows(&self, tenant: TenantId, up_to: u64) -> Result<(), sqlx::Error> {
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
        transaction.commit().await
    }
}
