use std::collections::BTreeMap;

use toolgate_events::Partition;
use toolgate_store::crash;

use super::Error;
use crate::{
    Environment,
    batch::Numbered,
    checkpoint::{self, Checkpoint},
    projections,
};

/// Rows and checkpoints in one transaction, as the live projector writes them. Answers with how many events were set aside.
///
/// # Errors
/// [`Error::Database`] and [`Error::Keys`]
pub async fn commit(
    environment: &Environment,
    events: &mut [Numbered],
    moves: &BTreeMap<Partition, (Checkpoint, Checkpoint)>,
) -> Result<u64, Error> {
    let mut transaction = environment.database.begin().await?;
    checkpoint::advance(&mut transaction, moves).await?;
    let parked = if events.is_empty() {
        0
    } else {
        projections::project(&mut transaction, events, environment.log.keys()).await.map_err(|error| match error {
            projections::Error::Database(error) => Error::Database(error),
            projections::Error::Keys(error) => Error::Keys(error),
        })?
    };
    crash::point("rebuild.written");
    transaction.commit().await?;
    crash::point("rebuild.committed");
    Ok(parked)
}
