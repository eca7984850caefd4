//! Rows of the audit trail that have left the table for segments in the object store.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use sqlx::{FromRow, Row, postgres::PgRow};
use toolgate_events::{TenantId, audit::AuditRow, canonical};
use toolgate_security::TenantTx;
use toolgate_store::{Archive, SegmentName, archive};
use uuid::Uuid;

use super::{
    audit::{AuditFilter, Stretch},
    bigint, unsigned,
};
use crate::Error;

/// Segments that are kept unpacked: who reads a page of one reads the next.
const KEPT: usize = 4;

/// The newest first.
type Recent = VecDeque<(SegmentName, Arc<[Archived]>)>;

/// The archived part of the tenants' trails.
#[derive(Clone)]
pub(crate) struct Segments {
    archive: Archive,
    recent: Arc<Mutex<Recent>>,
}

/// A row, and how many bytes its data has.
#[derive(Clone, Debug)]
struct Archived {
    row: AuditRow,
    data: usize,
}

/// What the database says of a segment.
struct Listed {
    name: SegmentName,
    size: u64,
    sha256: String,
}

impl FromRow<'_, PgRow> for Listed {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let name = SegmentName {
            tenant: TenantId(row.try_get::<Uuid, _>("tenant_id")?),
            first_position: unsigned(row, "first_position")?,
            last_position: unsigned(row, "last_position")?,
        };
        Ok(Self { name, size: unsigned(row, "size")?, sha256: row.try_get("sha256")? })
    }
}

/// Up to which position the tenant's trail is archived, 0 when none of it is.
pub(crate) async fn archived_to(tx: &mut TenantTx) -> Result<u64, Error> {
    let last: Option<i64> = sqlx::query_scalar("select max(last_position) from audit_segment").fetch_one(&mut **tx).await?;
    Ok(last.map_or(0, i64::unsigned_abs))
}

impl Segments {
    pub(crate) fn new(archive: Archive) -> Self {
        Self { archive, recent: Arc::default() }
    }

    /// The archived rows of a stretch that pass the filter, ascending, until `take` refuses one; whether one was refused.
    pub(super) async fn read(
        &self,
        tx: &mut TenantTx,
        filter: &AuditFilter,
        stretch: Stretch,
        mut take: impl FnMut(&AuditRow, usize) -> bool,
    ) -> Result<bool, Error> {
        for listed in overlapping(tx, filter, stretch).await? {
            for Archived { row, data } in self.open(&listed).await?.iter() {
                let is_asked_for = row.position > stretch.after && row.position <= stretch.up_to && filter.lets_through(row);
                if is_asked_for && !take(row, *data) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A segment's rows. They are believed when the bytes are those that were archived.
    async fn open(&self, listed: &Listed) -> Result<Arc<[Archived]>, Error> {
        if let Some((_, rows)) = self.recent().iter().find(|(name, _)| *name == listed.name) {
            return Ok(Arc::clone(rows));
        }
        let name = listed.name;
        let bytes = self.archive.get(name, listed.size + 1).await?;
        if canonical::hex(&Sha256::digest(&bytes)) != listed.sha256 {
            return Err(Error::Segment { name, reason: "its bytes are not those that were archived".to_owned() });
        }
        let rows = archive::unpack(&bytes, name.last_position - name.first_position + 1)
            .map_err(|error| Error::Segment { name, reason: error.to_string() })?;
        let measured = |row: AuditRow| Archived { data: canonical::to_string(&row.data).len(), row };
        let rows: Arc<[Archived]> = rows.into_iter().map(measured).collect();
        let mut recent = self.recent();
        recent.push_front((name, Arc::clone(&rows)));
        recent.truncate(KEPT);
        Ok(rows)
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        // The list stays consistent whatever panicked while holding it.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The segments that may hold rows of a stretch, ascending.
async fn overlapping(tx: &mut TenantTx, filter: &AuditFilter, stretch: Stretch) -> Result<Vec<Listed>, Error> {
    let listed = sqlx::query_as(
        "select tenant_id, first_position, last_position, size, sha256 from audit_segment
         where last_position > $1 and first_position <= $2
           and ($3::timestamptz is null or last_occurred_at >= $3) and ($4::timestamptz is null or first_occurred_at < $4)
         order by first_position",
    )
    .bind(bigint(stretch.after))
    .bind(bigint(stretch.up_to))
    .bind(filter.from)
    .bind(filter.to)
    .fetch_all(&mut **tx)
    .await?;
    Ok(listed)
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Segments")
    }
}
