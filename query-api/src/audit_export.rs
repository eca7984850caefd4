use bytes::Bytes;
use toolgate_events::TenantId;
use toolgate_security::{ReadPool, TenantTx};
use toolgate_store::Archive;

use crate::{
    Error,
    queries::{
        archive::Segments,
        audit::{self, AuditFilter, Stretch},
        positions,
    },
};

/// Rows read, and held, at once.
const PAGE: usize = 100;

/// A tenant's audit trail in canonical lines (docs/audit/format.md), as it is at the beginning: one page in memory, never a
/// transaction across pages.
#[derive(Debug)]
pub struct AuditExport {
    history: History,
    filter: AuditFilter,
    /// What is still to be read; none after the last page.
    left: Option<Stretch>,
}

/// Where a tenant's rows are.
#[derive(Debug)]
pub(crate) struct History {
    pub pool: ReadPool,
    pub segments: Segments,
    pub tenant: TenantId,
}

impl AuditExport {
    /// Everything after a position.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub async fn begin(pool: ReadPool, archive: Archive, tenant: TenantId, after: u64) -> Result<Self, Error> {
        let history = History { pool, segments: Segments::new(archive), tenant };
        let mut tx = TenantTx::begin(&history.pool, history.tenant).await?;
        let up_to = positions::newest(&mut tx).await?;
        tx.end().await?;
        Ok(Self::of(history, AuditFilter::default(), Stretch { after, up_to }))
    }

    /// What a filter lets through of a stretch.
    pub(crate) fn of(history: History, filter: AuditFilter, stretch: Stretch) -> Self {
        Self { history, filter, left: Some(stretch) }
    }

    /// The next lines, each with its newline; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Database`], and the archive's.
    pub async fn next_lines(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(stretch) = self.left else { return Ok(None) };
        let History { pool, segments, tenant } = &self.history;
        let tx = TenantTx::begin(pool, *tenant).await?;
        let (rows, has_more) = audit::exported_page(tx, segments, &self.filter, stretch, PAGE).await?;
        self.left = rows.last().filter(|_| has_more).map(|last| Stretch { after: last.position, ..stretch });
        let lines: String = rows.into_iter().map(|row| row.line).collect();
        Ok(Some(lines.into()))
    }
}
