use futures::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use toolgate_events::TenantId;
use toolgate_security::{Share, Shares};

use crate::adapters::ToolError;

/// The calls of one server: those that run, and as many that wait, which is what a server that hangs can keep of the lane. A
/// tenant has half of each, so that the others are served while its calls hang.
#[derive(Debug)]
pub struct Places {
    admitted: Semaphore,
    admitted_by_tenant: Shares,
    running: Semaphore,
    running_by_tenant: Shares,
}

/// One of them. Dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a> {
    _running: Option<SemaphorePermit<'a>>,
    _running_of_tenant: Share,
    _admitted: SemaphorePermit<'a>,
    _admitted_of_tenant: Share,
}

impl Places {
    /// `most` run at once.
    pub fn new(most: usize) -> Self {
        Self {
            admitted: Semaphore::new(2 * most),
            admitted_by_tenant: Shares::new(most),
            running: Semaphore::new(most),
            running_by_tenant: Shares::new(most / 2),
        }
    }

    /// Waits for a place among the running calls, unless too many wait already.
    ///
    /// # Errors
    /// [`ToolError::Busy`]
    pub async fn take(&self, tenant: TenantId) -> Result<Place<'_>, ToolError> {
        let of_tenant = self.admitted_by_tenant.take(tenant).now_or_never().ok_or(ToolError::Busy)?;
        let admitted = self.admitted.try_acquire().map_err(|_| ToolError::Busy)?;
        let running_of_tenant = self.running_by_tenant.take(tenant).await;
        // It is never closed.
        let running = self.running.acquire().await.ok();
        Ok(Place {
            _running: running,
            _running_of_tenant: running_of_tenant,
            _admitted: admitted,
            _admitted_of_tenant: of_tenant,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Waker},
    };

    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    fn is_waiting<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn a_tenant_runs_half_of_the_calls_and_waits_with_as_many() {
        let places = Places::new(4);
        let take = |number| places.take(tenant(number)).now_or_never();
        let running = [take(1), take(1)];
        assert!(running.iter().all(|place| matches!(place, Some(Ok(_)))));
        let (mut third, mut fourth) = (pin!(places.take(tenant(1))), pin!(places.take(tenant(1))));
        assert!(is_waiting(third.as_mut()) && is_waiting(fourth.as_mut()));
        assert!(matches!(take(1), Some(Err(ToolError::Busy))), "one more than may wait");
        let others = [take(2), take(2)];
        assert!(others.iter().all(|place| matches!(place, Some(Ok(_)))), "another tenant runs at once");
        drop(running);
        assert!(matches!(third.now_or_never(), Some(Ok(_))));
    }

    #[test]
    fn so_many_calls_run_and_as_many_wait() {
        let places = Places::new(2);
        let take = |number| places.take(tenant(number)).now_or_never();
        let running = [take(1), take(2)];
        assert!(running.iter().all(|place| matches!(place, Some(Ok(_)))));
        let (mut third, mut fourth) = (pin!(places.take(tenant(3))), pin!(places.take(tenant(4))));
        assert!(is_waiting(third.as_mut()) && is_waiting(fourth.as_mut()));
        assert!(matches!(take(5), Some(Err(ToolError::Busy))));
        drop(running);
        assert!(matches!((third.now_or_never(), fourth.now_or_never()), (Some(Ok(_)), Some(Ok(_)))));
    }

    #[test]
    fn a_server_with_one_place_lets_another_tenant_wait() {
        let places = Places::new(1);
        let running = places.take(tenant(1)).now_or_never();
        assert!(matches!(running, Some(Ok(_))));
        assert!(matches!(places.take(tenant(1)).now_or_never(), Some(Err(ToolError::Busy))));
        let mut other = pin!(places.take(tenant(2)));
        assert!(is_waiting(other.as_mut()));
        drop(running);
        assert!(matches!(other.now_or_never(), Some(Ok(_))));
    }
}
