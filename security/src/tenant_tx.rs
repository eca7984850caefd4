use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use toolgate_events::TenantId;

/// Connections of the reader role. Without a tenant it sees no rows, and the only way to a connection is [`TenantTx::begin`]:
///
/// ```compile_fail
/// async fn ask(pool: &toolgate_security::ReadPool) {
///     let _ = sqlx::query("select 1").execute(pool).await;
/// }
/// ```
///
/// ```
/// async fn ask(tx: &mut toolgate_security::TenantTx) {
///     let _ = sqlx::query("select 1").execute(&mut **tx).await;
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ReadPool(PgPool);

impl ReadPool {
    pub fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    /// How far every projection is, as (projection, partition, stream sequence): no tenant's data, so no tenant is needed.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn projection_checkpoints(&self) -> Result<Vec<(String, i32, i64)>, sqlx::Error> {
        sqlx::query_as("select projection, partition, stream_sequence from projection_checkpoint").fetch_all(&self.0).await
    }
}

/// A read-only transaction that sees one tenant's rows: row-level security does the rest. Dropping it ends it.
#[derive(Debug)]
pub struct TenantTx(Transaction<'static, Postgres>);

impl TenantTx {
    /// # Errors
    /// Whatever the database says, a pool that stays exhausted included.
    pub async fn begin(pool: &ReadPool, tenant: TenantId) -> Result<Self, sqlx::Error> {
        // One round trip; the id is a uuid and so cannot carry SQL. Readers wait for no flush.
        let begin = format!("begin transaction read only; select set_tenant('{}')", tenant.0);
        Ok(Self(pool.0.begin_with(begin).await?))
    }

    /// Ends the transaction now, so that the next user of the connection need not.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn end(self) -> Result<(), sqlx::Error> {
        self.0.commit().await
    }
}

impl Deref for TenantTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
