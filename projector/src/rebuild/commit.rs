use std::collections::BTreeMap;

use sqlx::PgPool;
use toolgate_events::Partition;
use toolgate_store::crash;

use crate::{
    batch::Numbered,
    checkpoint::{self, Checkpoint},
    projections,
};

/// Rows and checkpoints in one transaction, as the live projector writes them.
///
/// # Errors
/// Whatever the database says.
pub async fn commit(
    database: &PgPool,
    events: &[Numbered],
    moves: &BTreeMap<Partition, (Checkpoint, Checkpoint)>,
) -> Result<(), sqlx::Error> {
    let mut transaction = database.begin().await?;
    checkpoint::advance(&mut transaction, moves).await?;
    if !events.is_empty() {
        projections::project(&mut transaction, events).await?;
    }
    crash::point("rebuild.written");
    transaction.commit().await?;
    crash::point("rebuild.committed");
    Ok(())
}
