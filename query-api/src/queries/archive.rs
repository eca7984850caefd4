//! Rows of the audit trail that have left the table for segments in the object store.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, Row, postgres::PgRow};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
};
use toolgate_events::{TenantId, audit::AuditRow, canonical};
use toolgate_security::TenantTx;
use toolgate_store::{Archive, ArtifactError, SegmentError, SegmentName};
use uuid::Uuid;

use super::{
    audit::{AuditFilter, Stretch},
    bigint, unsigned,
};
use crate::Error;

/// Bytes of data in the segments that are kept unpacked, because who reads a page of one reads the next. The one that was used last
/// is kept whatever its size.
const KEPT_DATA: usize = 32 * 1024 * 1024;
/// Segments that are fetched and unpacked at once.
const AT_ONCE: usize = 2;

/// The archived part of the tenants' trails.
#[derive(Clone)]
pub(crate) struct Segments {
    archive: Archive,
    /// The one that was used last is the first.
    kept: Arc<Mutex<VecDeque<Arc<Slot>>>>,
    opening: Arc<Semaphore>,
}

/// One segment, opened once for everybody who wants it.
struct Slot {
    listed: Listed,
    rows: OnceCell<Unpacked>,
}

#[derive(Clone)]
struct Unpacked {
    rows: Arc<[Archived]>,
    data: usize,
}

/// A row, and how many bytes its data has.
#[derive(Clone, Debug)]
struct Archived {
    row: AuditRow,
    data: usize,
}

/// What the database says of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
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

/// The segments that may hold rows of a stretch, ascending.
pub(super) async fn overlapping(tx: &mut TenantTx, filter: &AuditFilter, stretch: Stretch) -> Result<Vec<Listed>, Error> {
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

/// The first segment that holds a row that occurred at a time or later.
pub(super) async fn first_since(tx: &mut TenantTx, time: DateTime<Utc>) -> Result<Option<Listed>, Error> {
    let listed = sqlx::query_as(
        "select tenant_id, first_position, last_position, size, sha256 from audit_segment
         where last_occurred_at >= $1 order by first_position limit 1",
    );
    Ok(listed.bind(time).fetch_optional(&mut **tx).await?)
}

impl Segments {
    pub(crate) fn new(archive: Archive) -> Self {
        Self { archive, kept: Arc::default(), opening: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The rows of a stretch in these segments that pass the filter, ascending, until `take` refuses one; whether one was refused.
    ///
    /// It may take as long as the object store takes: nobody holds a connection meanwhile.
    pub(super) async fn read(
        &self,
        listed: &[Listed],
        filter: &AuditFilter,
        stretch: Stretch,
        mut take: impl FnMut(&AuditRow, usize) -> bool,
    ) -> Result<bool, Error> {
        for listed in listed {
            for Archived { row, data } in self.open(listed).await?.iter() {
                let is_asked_for = row.position > stretch.after && row.position <= stretch.up_to && filter.lets_through(row);
                if is_asked_for && !take(row, *data) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn open(&self, listed: &Listed) -> Result<Arc<[Archived]>, Error> {
        let slot = self.slot(listed);
        let unpacked = slot.rows.get_or_try_init(|| self.unpack(listed)).await?;
        let rows = Arc::clone(&unpacked.rows);
        self.forget();
        Ok(rows)
    }

    async fn unpack(&self, listed: &Listed) -> Result<Unpacked, Error> {
        let unavailable = |error: String| Error::from(ArtifactError::Unavailable(error));
        // Nobody closes it.
        let _one_of_few = self.opening.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let Listed { name, size, sha256 } = listed;
        let rows = self.archive.open_segment(*name, *size, sha256).await.map_err(|error| match error {
            SegmentError::Store(error) => error.into(),
            SegmentError::Damaged(reason) => Error::Segment { name: *name, reason },
        })?;
        let measured = |row: AuditRow| Archived { data: canonical::to_string(&row.data).len(), row };
        let measuring = spawn_blocking(move || {
            let rows: Arc<[Archived]> = rows.into_iter().map(measured).collect();
            Unpacked { data: rows.iter().map(|row| row.data).sum(), rows }
        });
        measuring.await.map_err(|error| unavailable(error.to_string()))
    }

    fn slot(&self, listed: &Listed) -> Arc<Slot> {
        let mut kept = self.kept();
        let at = kept.iter().position(|slot| slot.listed == *listed);
        let slot = at.and_then(|at| kept.remove(at));
        let slot = slot.unwrap_or_else(|| Arc::new(Slot { listed: listed.clone(), rows: OnceCell::new() }));
        kept.push_front(Arc::clone(&slot));
        slot
    }

    /// Lets go of what is too much, and of what nobody got to open.
    fn forget(&self) {
        let mut data = 0;
        let mut is_first = true;
        self.kept().retain(|slot| {
            let Some(unpacked) = slot.rows.get() else { return Arc::strong_count(slot) > 1 };
            data += unpacked.data;
            std::mem::take(&mut is_first) || data <= KEPT_DATA
        });
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Slot>>> {
        // The list stays consistent whatever panicked while holding it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Segments")
    }
}
