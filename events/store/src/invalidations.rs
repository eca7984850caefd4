//! Results of tools that count no longer, said aloud on core NATS: every worker drops what it has kept of them.
//!
//! An announcement may be lost with the connection, so a worker that had to connect again keeps nothing from before.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use toolgate_events::TenantId;

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
    /// Tells every worker.
    ///
    /// # Errors
    /// When it could not be sent; whoever asked for it should ask again.
    pub async fn announce_invalidated(&self, invalidated: &Invalidated) -> Result<(), LogError> {
        let payload = Bytes::from(serde_json::to_vec(invalidated).map_err(|error| LogError::Announce(error.to_string()))?);
        self.client.publish(SUBJECT, payload).await.map_err(|error| LogError::Announce(error.to_string()))
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
