use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection, PgPool, Postgres, Transaction};
use toolgate_events::Partition;
use uuid::Uuid;

use super::schema::LIVE;
use crate::checkpoint::{self, Checkpoint};

/// Where a tenant's archive ends.
#[derive(Clone, Debug, FromRow)]
pub struct Archived {
    pub tenant_id: Uuid,
    pub last_position: i64,
    /// Of the row at that position.
    pub hash: String,
}

/// The live projections as they are at one moment, however long they are looked at.
#[derive(Debug)]
pub struct Snapshot {
    transaction: Transaction<'static, Postgres>,
    checkpoints: BTreeMap<Partition, Checkpoint>,
}

impl Snapshot {
    /// # Errors
    /// Whatever the database says.
    pub async fn take(live: &PgPool, partitions: u16) -> Result<Self, sqlx::Error> {
        let mut transaction = live.begin_with("begin isolation level repeatable read read only").await?;
        let partitions: Vec<_> = (0..partitions).map(Partition).collect();
        // The first statement is what takes the snapshot.
        let checkpoints = checkpoint::read(&mut transaction, &partitions).await?;
        Ok(Self { transaction, checkpoints })
    }

    /// Of every partition that was ever projected.
    pub fn checkpoints(&self) -> &BTreeMap<Partition, Checkpoint> {
        &self.checkpoints
    }

    /// Every tenant that has an archive.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn archived(&mut self) -> Result<Vec<Archived>, sqlx::Error> {
        sqlx::query_as(&format!(
            "select distinct on (tenant_id) tenant_id, last_position, hash from {LIVE}.audit_segment
             order by tenant_id, last_position desc"
        ))
        .fetch_all(self.connection())
        .await
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
