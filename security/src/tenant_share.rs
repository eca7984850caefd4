use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use toolgate_events::TenantId;

/// How much of something scarce each tenant may hold at once, so that what one holds for long leaves the others some.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    tenants: Mutex<HashMap<TenantId, Tenant>>,
}

#[derive(Debug)]
struct Tenant {
    places: Arc<Semaphore>,
    /// Those that hold a place and those that wait for one.
    users: usize,
}

/// One place of a tenant. Dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    shares: Shares,
    tenant: TenantId,
    place: Option<OwnedSemaphorePermit>,
}

impl Shares {
    /// `most` for each tenant, at least 1.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most: most.max(1), tenants: Mutex::default() }))
    }

    /// Waits for a place of the tenant's.
    pub async fn take(&self, tenant: TenantId) -> Share {
        let (mut share, places) = {
            let mut tenants = self.tenants();
            let entry =
                tenants.entry(tenant).or_insert_with(|| Tenant { places: Arc::new(Semaphore::new(self.0.most)), users: 0 });
            entry.users += 1;
            (Share { shares: self.clone(), tenant, place: None }, Arc::clone(&entry.places))
        };
        // It is never closed.
        share.place = places.acquire_owned().await.ok();
        share
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Tenant>> {
        // Whole numbers stay consistent whatever panicked while holding them.
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut tenants = self.shares.tenants();
        if let Some(tenant) = tenants.get_mut(&self.tenant) {
            tenant.users -= 1;
            if tenant.users == 0 {
                tenants.remove(&self.tenant);
            }
        }
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
    fn a_tenant_holds_its_share_and_no_more_and_leaves_the_others_theirs() {
        let shares = Shares::new(2);
        let take = |number| shares.take(tenant(number)).now_or_never();
        let (first, second) = (take(1), take(1));
        assert!(first.is_some() && second.is_some());
        assert!(take(1).is_none(), "the third waits");
        assert!(take(2).is_some(), "another tenant does not");
        drop(first);
        assert!(take(1).is_some());
    }

    #[test]
    fn whoever_waits_gets_the_next_place() {
        let shares = Shares::new(1);
        let held = shares.take(tenant(1)).now_or_never();
        let mut waiting = std::pin::pin!(shares.take(tenant(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn nothing_is_kept_of_a_tenant_that_holds_nothing() {
        let shares = Shares::new(0);
        let held = shares.take(tenant(1)).now_or_never();
        // Given up while waiting.
        assert!(shares.take(tenant(1)).now_or_never().is_none());
        assert_eq!(shares.tenants().len(), 1);
        drop(held);
        assert_eq!(shares.tenants().len(), 0);
    }
}
