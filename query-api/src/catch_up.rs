//! Waiting for the projection, so that a reader sees what it was told has happened.

use std::time::Duration;

use tokio::time::Instant;
use toolgate_events::{CallId, Partition, TenantId};
use toolgate_security::TenantTx;

use crate::{Error, State, queries::positions};

/// How long `min_position` waits.
const POSITION_PATIENCE: Duration = Duration::from_secs(10);
/// How long a call that is in the log may take to be projected.
const CALL_PATIENCE: Duration = Duration::from_secs(2);
/// Between looks when announcements stay out.
const POSITION_INTERVAL: Duration = Duration::from_millis(500);
const CALL_INTERVAL: Duration = Duration::from_millis(50);

impl State {
    /// Waits until the tenant is projected up to `position`.
    ///
    /// # Errors
    /// [`Error::PositionNotReached`] after ten seconds.
    pub(crate) async fn reach(&self, tenant: TenantId, position: u64) -> Result<(), Error> {
        let deadline = Instant::now() + POSITION_PATIENCE;
        // Listening before looking: what is announced in between is not missed.
        let mut following = self.announcements.follow(tenant);
        loop {
            let mut tx = TenantTx::begin(&self.pool, tenant).await?;
            let newest = positions::newest(&mut tx).await?;
            tx.end().await?;
            if newest >= position {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::PositionNotReached(position));
            }
            following.changed(left.min(POSITION_INTERVAL)).await;
        }
    }

    /// Waits until a call that the log knows is projected; returns at once for a call that it does not know. The log is asked by
    /// the tenant's own subject, so another tenant's call is as unknown as none.
    ///
    /// # Errors
    /// [`Error::NotProjected`] after two seconds.
    pub(crate) async fn catch_up(&self, tenant: TenantId, call: CallId) -> Result<(), Error> {
        if self.log.locate(tenant, call).await?.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + CALL_PATIENCE;
        let mut following = self.announcements.follow(tenant);
        let state = self.log.partition_state(Partition::of(tenant, self.log.partitions())).await?;
        loop {
            let mut tx = TenantTx::begin(&self.pool, tenant).await?;
            let is_projected = positions::is_projected(&mut tx, call, &state).await?;
            tx.end().await?;
            if is_projected {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::NotProjected);
            }
            following.changed(left.min(CALL_INTERVAL)).await;
        }
    }
}
