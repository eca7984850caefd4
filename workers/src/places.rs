use tokio::sync::{Semaphore, SemaphorePermit};
use toolgate_events::TenantId;
use toolgate_security::{Share, Shares};

/// The calls that a lane runs at once.
#[derive(Debug)]
pub struct Places {
    running: Semaphore,
    /// A tenant whose calls are slow leaves the others half of the lane.
    tenants: Shares,
    /// An upstream that does not answer leaves the others a quarter of it: more than one tenant has, so that no tenant alone can
    /// shut the others out of an upstream.
    upstreams: Shares<String>,
}

/// One of them. Dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a> {
    _running: Option<SemaphorePermit<'a>>,
    _upstream: Option<Share<String>>,
    _tenant: Share,
}

impl Places {
    pub fn new(concurrency: usize) -> Self {
        Self {
            running: Semaphore::new(concurrency),
            tenants: Shares::new(concurrency / 2),
            upstreams: Shares::new(concurrency - concurrency / 4),
        }
    }

    /// Waits for a place: of the tenant's, of the upstream's where a call names one, and of the lane's.
    pub async fn take(&self, tenant: TenantId, upstream: Option<&str>) -> Place<'_> {
        let tenant = self.tenants.take(tenant).await;
        let upstream = match upstream {
            Some(upstream) => Some(self.upstreams.take(upstream.to_owned()).await),
            None => None,
        };
        // It is never closed.
        Place { _running: self.running.acquire().await.ok(), _upstream: upstream, _tenant: tenant }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    #[test]
    fn a_lane_runs_so_many_calls_and_half_of_them_for_one_tenant() {
        let places = Places::new(4);
        let take = |number| places.take(tenant(number), None).now_or_never();
        let slow = [take(1), take(1)];
        assert!(slow.iter().all(Option::is_some) && take(1).is_none());
        let others = [take(2), take(3)];
        assert!(others.iter().all(Option::is_some) && take(4).is_none(), "the lane is full");
        drop(slow);
        assert!(take(4).is_some());
    }

    #[test]
    fn an_upstream_leaves_the_others_a_quarter_and_no_tenant_has_all_of_it() {
        let places = Places::new(4);
        let take = |number, upstream| places.take(tenant(number), upstream).now_or_never();
        let slow = [take(1, Some("dead")), take(1, Some("dead")), take(2, Some("dead"))];
        assert!(slow.iter().all(Option::is_some));
        assert!(take(3, Some("dead")).is_none(), "its share is used up");
        assert!(take(3, Some("alive")).is_some() && take(3, None).is_some());
        drop(slow);
        assert!(take(3, Some("dead")).is_some());
    }

    #[test]
    fn a_lane_of_one_serves_whoever_comes() {
        let places = Places::new(1);
        assert!(places.take(tenant(0), Some("any")).now_or_never().is_some());
    }
}
