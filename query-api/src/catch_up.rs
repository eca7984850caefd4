//! Waiting for the projection, so that a reader sees what it was told has happened.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue};
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

/// Says in every answer up to which position of the tenant it was read.
pub(crate) const POSITION_HEADER: HeaderName = HeaderName::from_static("toolgate-position");

/// A look at a tenant's rows. Everything that is read through it is of one moment, so it is of one position.
#[derive(Debug)]
pub(crate) struct Reading {
    tx: TenantTx,
    pub tenant: TenantId,
    /// Up to here the rows tell what happened, and of nothing later. It is lowered by a look at the past.
    pub position: u64,
}

/// An answer with the position it was read at.
#[derive(Debug)]
pub(crate) struct Positioned<T> {
    pub answer: T,
    pub position: u64,
}

impl State {
    /// A look at the tenant's rows, once they are projected up to `min_position`.
    ///
    /// # Errors
    /// [`Error::PositionNotReached`] after ten seconds.
    pub(crate) async fn read(&self, tenant: TenantId, min_position: Option<u64>) -> Result<Reading, Error> {
        let deadline = Instant::now() + POSITION_PATIENCE;
        // Listening before looking: what is announced in between is not missed.
        let mut following = min_position.map(|min_position| (min_position, self.announcements.follow(tenant)));
        loop {
            let mut tx = TenantTx::begin(&self.pool, tenant).await?;
            let position = positions::newest(&mut tx).await?;
            let Some((min_position, following)) = following.as_mut().filter(|(min_position, _)| position < *min_position) else {
                return Ok(Reading { tx, tenant, position });
            };
            tx.end().await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::PositionNotReached(*min_position));
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

impl Reading {
    /// Ends the look with what was seen.
    ///
    /// # Errors
    /// [`Error::Database`]
    pub(crate) async fn end<T>(self, answer: T) -> Result<Positioned<T>, Error> {
        self.tx.end().await?;
        Ok(Positioned { answer, position: self.position })
    }
}

/// For whoever ends the look by itself.
impl From<Reading> for TenantTx {
    fn from(reading: Reading) -> Self {
        reading.tx
    }
}

impl Deref for Reading {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        &self.tx
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut TenantTx {
        &mut self.tx
    }
}

impl<T: IntoResponse> IntoResponse for Positioned<T> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        response.headers_mut().insert(POSITION_HEADER, HeaderValue::from(self.position));
        response
    }
}
