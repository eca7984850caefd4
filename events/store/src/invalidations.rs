//! Results of tools that count no longer, said aloud on core NATS: every worker drops what it has kept of them.
//!
//! An announcement may be lost with the connection, so a worker that had to connect again keeps nothing from before.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use toolgate_events::{Partition, TenantId};

use crate::{Log, LogError};

const SUBJECT: &str = "invalidated";

/// Results that count no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalidated {
    pub tool: String,
    /// Whose; everybody's when absent.
    #[serde(default)]
    pub tenant_id: Option<TenantId>,
}

impl Log {
    /// Tells every worker, and waits until the broker has it.
    ///
    /// # Errors
    /// When it may not have been told; whoever asked for it should ask again.
    pub async fn announce_invalidated(&self, invalidated: &Invalidated) -> Result<(), LogError> {
        let payload = Bytes::from(serde_json::to_vec(invalidated).map_err(|error| LogError::Announce(error.to_string()))?);
        let connections = self.connections();
        self.client.publish(SUBJECT, payload).await.map_err(|error| LogError::Announce(error.to_string()))?;
        // The broker takes what comes over one connection in its order, so that the answer to a later question shows that it has this.
        self.partition_state(Partition(0)).await?;
        if self.connections() == connections { Ok(()) } else { Err(LogError::Announce("the connection was lost".to_owned())) }
    }

    /// What others announce; `None` for an announcement that this release does not understand.
    ///
    /// # Errors
    /// [`LogError::Subscribe`]
    pub async fn invalidated(&self) -> Result<impl Stream<Item = Option<Invalidated>> + Send + use<>, LogError> {
        let subscription = self.client.subscribe(SUBJECT).await?;
        // The server has the subscription before anything is kept that it may concern.
        self.flush().await;
        Ok(subscription.map(|message| serde_json::from_slice(&message.payload).ok()))
    }
}
