use std::collections::BTreeSet;

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use toolgate_events::Partition;

/// The first half of every advisory lock this projector takes: "TGPJ" in ASCII.
const LOCK_CLASS: i32 = 0x5447_504a;

/// The partitions this process projects: each is one session-level advisory lock, so they are free the moment its connection is
/// gone. The checkpoint's own guard holds even if two processes think they own one.
#[derive(Debug)]
pub struct Ownership {
    connection: PoolConnection<Postgres>,
    owned: BTreeSet<Partition>,
}

impl Ownership {
    /// # Errors
    /// Whatever the database says.
    pub async fn open(database: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: database.acquire().await?, owned: BTreeSet::new() })
    }

    /// Takes every partition that nobody owns; answers with the new ones. Also proves that the locks are still held: a dead
    /// connection is an error.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn claim(&mut self, partitions: impl Iterator<Item = Partition>) -> Result<Vec<Partition>, sqlx::Error> {
        let missing: Vec<i32> =
            partitions.filter(|partition| !self.owned.contains(partition)).map(|partition| i32::from(partition.0)).collect();
        let connection: &mut PgConnection = &mut self.connection;
        let claimed: Vec<i32> =
            sqlx::query_scalar("select partition from unnest($2::int[]) as partition where pg_try_advisory_lock($1, partition)")
                .bind(LOCK_CLASS)
                .bind(missing)
                .fetch_all(connection)
                .await?;
        let claimed: Vec<_> = claimed.into_iter().filter_map(|index| u16::try_from(index).ok().map(Partition)).collect();
        self.owned.extend(&claimed);
        Ok(claimed)
    }

    /// Gives everything up, by closing the connection that holds it.
    pub async fn release(self) {
        if let Err(error) = sqlx::Connection::close(self.connection.detach()).await {
            tracing::debug!(error = %error, "the ownership connection was already gone");
        }
    }
}
