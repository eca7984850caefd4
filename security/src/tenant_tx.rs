use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::time::timeout;
use toolgate_events::TenantId;

use crate::tenant_share::{Share, Shares};

/// The first half of the advisory lock that a projector holds on a partition, whose index is the second: "TGPJ" in ASCII.
pub const PARTITION_LOCK_CLASS: i32 = 0x5447_504a;

/// How far a projection is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionState {
    pub projection: String,
    pub partition: i32,
    pub stream_sequence: u64,
    /// Why it is not projected, if that is on record.
    pub halt: Option<ProjectionHalt>,
}

/// Why a partition is not projected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionHalt {
    pub reason: String,
    pub since: DateTime<Utc>,
    /// Whether somebody has to do something about it; otherwise it goes on by itself when it can.
    pub is_final: bool,
}

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
///
/// A tenant holds at most half of the connections at once: its slow queries leave the others some.
#[derive(Clone, Debug)]
pub struct ReadPool {
    pool: PgPool,
    shares: Shares,
    patience: Duration,
}

impl ReadPool {
    pub fn new(pool: PgPool) -> Self {
        let (connections, patience) = (pool.options().get_max_connections(), pool.options().get_acquire_timeout());
        Self { pool, shares: Shares::new(usize::try_from(connections / 2).unwrap_or(usize::MAX)), patience }
    }

    /// How far every projection is, as (projection, partition, stream sequence): no tenant's data, so no tenant is needed.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn projection_checkpoints(&self) -> Result<Vec<(String, i32, i64)>, sqlx::Error> {
        sqlx::query_as("select projection, partition, stream_sequence from projection_checkpoint").fetch_all(&self.pool).await
    }

    /// The same with what is on record of partitions that stand still.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn projection_states(&self) -> Result<Vec<ProjectionState>, sqlx::Error> {
        type Row = (String, i32, i64, Option<String>, Option<DateTime<Utc>>, bool);
        let rows: Vec<Row> = sqlx::query_as(
            "select projection, partition, stream_sequence, halted_reason, halted_at, halted_sequence is not null
             from projection_checkpoint",
        )
        .fetch_all(&self.pool)
        .await?;
        let state = |(projection, partition, stream_sequence, reason, since, is_final): (_, _, i64, Option<_>, Option<_>, _)| {
            let halt = reason.zip(since).map(|(reason, since)| ProjectionHalt { reason, since, is_final });
            ProjectionState { projection, partition, stream_sequence: stream_sequence.unsigned_abs(), halt }
        };
        Ok(rows.into_iter().map(state).collect())
    }

    /// Whether a projector holds a partition.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn is_projected_by_somebody(&self, partition: i32) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (
                 select from pg_locks
                 where locktype = 'advisory' and granted and objsubid = 2 and classid::bigint = $1 and objid::bigint = $2
                   and database = (select oid from pg_database where datname = current_database())
             )",
        )
        .bind(i64::from(PARTITION_LOCK_CLASS))
        .bind(i64::from(partition))
        .fetch_one(&self.pool)
        .await
    }
}

/// A read-only transaction that sees one tenant's rows, as they were at one moment: row-level security does the rest. Dropping it
/// ends it.
#[derive(Debug)]
pub struct TenantTx {
    transaction: Transaction<'static, Postgres>,
    /// After the transaction, so that the connection is back before the next one may have it.
    _share: Share,
}

impl TenantTx {
    /// # Errors
    /// Whatever the database says; [`sqlx::Error::PoolTimedOut`] also when the tenant's share of the pool stays taken.
    pub async fn begin(pool: &ReadPool, tenant: TenantId) -> Result<Self, sqlx::Error> {
        // One round trip; the id is a uuid and so cannot carry SQL. Readers wait for no flush. What several statements say of a
        // tenant belongs together, so they share a snapshot.
        let begin = format!("begin transaction isolation level repeatable read read only; select set_tenant('{}')", tenant.0);
        let share = timeout(pool.patience, pool.shares.take(tenant)).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        Ok(Self { transaction: pool.pool.begin_with(begin).await?, _share: share })
    }

    /// Says what this transaction looks for in `knowledge_index`, whose row policy shows what matches `query` (a tsquery) and nothing
    /// else. It holds until it is said again, and can only narrow what the tenant sees.
    ///
    /// # Errors
    /// Whatever the database says. That `query` is none shows in the next statement.
    pub async fn look_for(&mut self, query: &str) -> Result<(), sqlx::Error> {
        sqlx::query("select set_config('app.search_query', $1, true)").bind(query).execute(&mut **self).await?;
        Ok(())
    }

    /// Ends the transaction now, so that the next user of the connection need not.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn end(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl Deref for TenantTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
