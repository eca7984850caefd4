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
    /// An upstream that does not answer leaves a tenant half of its own half, for its calls to others.
    tenants_upstreams: Shares<(TenantId, String)>,
}

/// One of them. Dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a> {
    _running: Option<SemaphorePermit<'a>>,
    _upstream: Option<Share<String>>,
    _tenant: Share,
    _tenants_upstream: Option<Share<(TenantId, String)>>,
}

impl Places {
    pub fn new(concurrency: usize) -> Self {
        Self {
            running: Semaphore::new(concurrency),
            tenants: Shares::new(concurrency / 2),
            upstreams: Shares::new(concurrency - concurrency / 4),
            tenants_upstreams: Shares::new(concurrency / 4),
        }
    }

    /// Waits for a place: of the tenant's with the upstream where a call names one, of the tenant's, of the upstream's, and of the
    /// lane's. What waits for one holds those before it: the tenant's own are held by no more calls than it may have with one upstream.
    pub async fn take(&self, tenant: TenantId, upstream: Option<&str>) -> Place<'_> {
        let tenants_upstream = match upstream {
            Some(upstream) => Some(self.tenants_upstreams.take((tenant, upstream.to_owned())).await),
            None => None,
        };
        let tenant = self.tenants.take(tenant).await;
        let upstream = match upstream {
            Some(upstream) => Some(self.upstreams.take(upstream.to_owned()).await),
            None => None,
        };
        // It is never closed.
        let running = self.running.acquire().await.ok();
        Place { _running: running, _upstream: upstream, _tenant: tenant, _tenants_upstream: tenants_upstream }
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
        let slow = [1, 2, 3].map(|number| take(number, Some("dead")));
        assert!(slow.iter().all(Option::is_some));
        assert!(take(4, Some("dead")).is_none(), "its share is used up");
        assert!(take(4, Some("alive")).is_some() && take(4, None).is_some());
        drop(slow);
        assert!(take(4, Some("dead")).is_some());
    }

    #[test]
    fn an_upstream_leaves_a_tenant_half_of_its_half() {
        let places = Places::new(8);
        let take = |number, upstream| places.take(tenant(number), upstream).now_or_never();
        let others: Vec<_> = [2, 2, 3, 3, 4, 4].map(|number| take(number, Some("dead"))).into();
        assert!(others.iter().all(Option::is_some));
        // All of these wait: two for the upstream, the third for the tenant's share of it.
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(places.take(tenant(1), Some("dead")))).collect();
        assert!(waiting.iter_mut().all(|place| place.as_mut().now_or_never().is_none()));
        let mine = [take(1, Some("alive")), take(1, None)];
        assert!(mine.iter().all(Option::is_some), "one dead host holds no more of the tenant's");
        assert!(take(1, None).is_none(), "the lane is full");
        drop(others);
        assert!(waiting[0].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_tenant_has_a_quarter_of_the_lane_with_one_upstream() {
        for (concurrency, most) in [(1, 1), (4, 1), (7, 1), (8, 2), (64, 16)] {
            let places = Places::new(concurrency);
            let take = || places.take(tenant(1), Some("any")).now_or_never();
            let held: Vec<_> = (0..most).map(|_| take()).collect();
            assert!(held.iter().all(Option::is_some) && take().is_none(), "{concurrency}");
            drop(held);
            assert!(take().is_some());
        }
    }

    #[test]
    fn a_lane_of_one_serves_whoever_comes() {
        let places = Places::new(1);
        assert!(places.take(tenant(0), Some("any")).now_or_never().is_some());
    }
}
