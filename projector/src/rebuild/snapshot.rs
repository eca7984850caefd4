use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use toolgate_events::Partition;

use crate::checkpoint::{self, Checkpoint};

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

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
