use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use toolgate_events::TenantId;

/// How much of something scarce each tenant may hold at once, so that what one holds for long leaves the others some. Whoever else
/// may use things up, such as an upstream that does not answer, can have shares as well.
#[derive(Clone, Debug)]
pub struct Shares<K = TenantId>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    most: usize,
    holders: Mutex<HashMap<K, Holder>>,
}

#[derive(Debug)]
struct Holder {
    places: Arc<Semaphore>,
    /// Those that hold a place and those that wait for one.
    users: usize,
}

/// One place of a holder's. Dropping it gives it back.
#[derive(Debug)]
pub struct Share<K: Clone + Eq + Hash = TenantId> {
    shares: Shares<K>,
    holder: K,
    place: Option<OwnedSemaphorePermit>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// `most` for each, at least 1.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most: most.max(1), holders: Mutex::new(HashMap::new()) }))
    }

    /// Waits for a place of the holder's.
    pub async fn take(&self, holder: K) -> Share<K> {
        let (mut share, places) = {
            let mut holders = self.holders();
            let entry = holders
                .entry(holder.clone())
                .or_insert_with(|| Holder { places: Arc::new(Semaphore::new(self.0.most)), users: 0 });
            entry.users += 1;
            (Share { shares: self.clone(), holder, place: None }, Arc::clone(&entry.places))
        };
        // It is never closed.
        share.place = places.acquire_owned().await.ok();
        share
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<K, Holder>> {
        // Whole numbers stay consistent whatever panicked while holding them.
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut holders = self.shares.holders();
        if let Some(holder) = holders.get_mut(&self.holder) {
            holder.users -= 1;
            if holder.users == 0 {
                holders.remove(&self.holder);
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
        assert_eq!(shares.holders().len(), 1);
        drop(held);
        assert_eq!(shares.holders().len(), 0);
    }
}
