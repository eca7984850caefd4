use std::collections::BTreeSet;

use sqlx::{PgConnection, PgPool};
use toolgate_events::{Partition, TenantId};

/// The first half of every advisory lock that says who projects a partition: "TGPJ" in ASCII.
pub const PROJECTS: i32 = toolgate_security::PARTITION_LOCK_CLASS;
/// The same for who signs audit checkpoints of it: "TGAC".
pub const SIGNS: i32 = 0x5447_4143;
/// The first half of the lock on what is parked of a tenant: "TGPK".
const PARKED_LOCK_CLASS: i32 = 0x5447_504b;

/// The partitions this process works on: each is one session-level advisory lock, so they are free the moment its connection is
/// gone. The checkpoint's own guard holds even if two processes think they own one.
#[derive(Debug)]
pub struct Ownership {
    /// Taken out of the pool for good: dropped, it is closed, and the locks are free. Back in the pool it would go on holding them
    /// for nobody.
    connection: PgConnection,
    class: i32,
    owned: BTreeSet<Partition>,
}

impl Ownership {
    /// # Errors
    /// Whatever the database says.
    pub async fn open(database: &PgPool, class: i32) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: database.acquire().await?.detach(), class, owned: BTreeSet::new() })
    }

    /// Takes every partition that nobody owns; answers with the new ones. Also proves that the locks are still held: a dead
    /// connection is an error.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn claim(&mut self, partitions: impl Iterator<Item = Partition>) -> Result<Vec<Partition>, sqlx::Error> {
        let missing: Vec<i32> =
            partitions.filter(|partition| !self.owned.contains(partition)).map(|partition| i32::from(partition.0)).collect();
        let claimed: Vec<i32> =
            sqlx::query_scalar("select partition from unnest($2::int[]) as partition where pg_try_advisory_lock($1, partition)")
                .bind(self.class)
                .bind(missing)
                .fetch_all(&mut self.connection)
                .await?;
        let claimed: Vec<_> = claimed.into_iter().filter_map(|index| u16::try_from(index).ok().map(Partition)).collect();
        self.owned.extend(&claimed);
        Ok(claimed)
    }

    pub fn has(&self, partition: Partition) -> bool {
        self.owned.contains(&partition)
    }

    /// Gives everything up, by closing the connection that holds it.
    pub async fn release(self) {
        if let Err(error) = sqlx::Connection::close(self.connection).await {
            tracing::debug!(error = %error, "the ownership connection was already gone");
        }
    }
}

/// Waits until nobody else is busy with what is parked of a tenant, and keeps the others out until the transaction ends. Two tenants may
/// share a lock; then they wait for each other.
///
/// # Errors
/// Whatever the database says.
pub async fn lock_parked(transaction: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock($1, hashtext($2::text))")
        .bind(PARKED_LOCK_CLASS)
        .bind(tenant.0)
        .execute(transaction)
        .await
        .map(drop)
}
