use bytes::Bytes;
use toolgate_events::TenantId;
use toolgate_security::{ReadPool, TenantTx};

use crate::{
    Error,
    queries::{
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
    pool: ReadPool,
    tenant: TenantId,
    filter: AuditFilter,
    /// What is still to be read; none after the last page.
    left: Option<Stretch>,
}

impl AuditExport {
    /// Everything after a position.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub async fn begin(pool: ReadPool, tenant: TenantId, after: u64) -> Result<Self, Error> {
        Self::filtered(pool, tenant, AuditFilter::default(), after).await
    }

    pub(crate) async fn filtered(pool: ReadPool, tenant: TenantId, filter: AuditFilter, after: u64) -> Result<Self, Error> {
        let mut tx = TenantTx::begin(&pool, tenant).await?;
        let up_to = positions::newest(&mut tx).await?;
        tx.end().await?;
        Ok(Self { pool, tenant, filter, left: Some(Stretch { after, up_to }) })
    }

    /// The next lines, each with its newline; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub async fn next_lines(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(stretch) = self.left else { return Ok(None) };
        let mut tx = TenantTx::begin(&self.pool, self.tenant).await?;
        let (rows, has_more) = audit::exported_page(&mut tx, &self.filter, stretch, PAGE).await?;
        tx.end().await?;
        self.left = rows.last().filter(|_| has_more).map(|last| Stretch { after: last.position, ..stretch });
        let lines: String = rows.into_iter().flat_map(|row| [row.line, "\n".to_owned()]).collect();
        Ok(Some(lines.into()))
    }
}
