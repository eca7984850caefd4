use tokio::sync::{Semaphore, SemaphorePermit};
use toolgate_events::TenantId;
use toolgate_security::{Share, Shares};

/// The calls that a lane runs at once.
#[derive(Debug)]
pub struct Places {
    running: Semaphore,
    /// A tenant whose calls are slow leaves the others half of the lane.
    shares: Shares,
}

/// One of them. Dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a> {
    _running: Option<SemaphorePermit<'a>>,
    _share: Share,
}

impl Places {
    pub fn new(concurrency: usize) -> Self {
        Self { running: Semaphore::new(concurrency), shares: Shares::new(concurrency / 2) }
    }

    /// Waits for a place.
    pub async fn take(&self, tenant: TenantId) -> Place<'_> {
        let share = self.shares.take(tenant).await;
        // It is never closed.
        Place { _running: self.running.acquire().await.ok(), _share: share }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_lane_runs_so_many_calls_and_half_of_them_for_one_tenant() {
        let places = Places::new(4);
        let take = |tenant| places.take(TenantId(Uuid::from_u128(tenant))).now_or_never();
        let slow = [take(1), take(1)];
        assert!(slow.iter().all(Option::is_some) && take(1).is_none());
        let others = [take(2), take(3)];
        assert!(others.iter().all(Option::is_some) && take(4).is_none(), "the lane is full");
        drop(slow);
        assert!(take(4).is_some());
    }

    #[test]
    fn a_lane_of_one_serves_whoever_comes() {
        let places = Places::new(1);
        assert!(places.take(TenantId(Uuid::nil())).now_or_never().is_some());
    }
}
