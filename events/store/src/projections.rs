//! How far each tenant is projected, as the projectors announce it: one subscription for the whole process.
//!
//! An announcement may be lost, so whoever follows a tenant also looks by itself now and then.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use toolgate_events::TenantId;

use crate::{Log, LogError, Projected, announce::lock};

const RESUBSCRIBE_DELAY: Duration = Duration::from_secs(1);
/// Events of one tenant whose positions are remembered.
const MAX_PLACES: usize = 4_096;

type Followed = Arc<Mutex<HashMap<TenantId, Followers>>>;

/// Everybody in the process who follows one tenant.
struct Followers {
    sender: watch::Sender<Option<Projected>>,
    /// How many. The channel's own count still holds those that are just leaving.
    count: usize,
    /// Once somebody has asked for positions.
    places: Option<Places>,
}

/// The positions of a tenant's newest events, by their places in the partition.
type Places = Arc<Mutex<BTreeMap<u64, u64>>>;

/// The announcements, shared by everybody in the process who waits for one.
#[derive(Clone)]
pub struct Announcements {
    followed: Followed,
    _listening: Arc<AbortOnDropHandle<()>>,
}

/// One tenant's announcements, from now on.
pub struct Following {
    tenant: TenantId,
    followed: Followed,
    newest: watch::Receiver<Option<Projected>>,
}

/// One tenant's announcements, from now on, and the positions that they tell.
#[derive(Debug)]
pub struct FollowingEvents {
    following: Following,
    places: Places,
}

impl Announcements {
    /// # Errors
    /// [`LogError::Subscribe`]
    pub async fn open(log: &Log) -> Result<Self, LogError> {
        Self::open_for(log, |_| ()).await
    }

    /// [`Self::open`], and `observer` hears every announcement of every tenant. It must not block.
    ///
    /// # Errors
    /// [`LogError::Subscribe`]
    pub async fn open_for(log: &Log, observer: impl Fn(&Projected) + Send + Sync + 'static) -> Result<Self, LogError> {
        let followed = Followed::default();
        let first = log.projected().await?;
        let task = tokio::spawn(listen(log.clone(), Arc::clone(&followed), first.boxed(), observer));
        Ok(Self { followed, _listening: Arc::new(AbortOnDropHandle::new(task)) })
    }

    /// A tenant's announcements from now on. To miss nothing, follow before looking.
    pub fn follow(&self, tenant: TenantId) -> Following {
        let mut followed = lock(&self.followed);
        self.follow_in(&mut followed, tenant)
    }

    /// [`Self::follow`], and the positions of single events are remembered.
    pub fn follow_events(&self, tenant: TenantId) -> FollowingEvents {
        let mut followed = lock(&self.followed);
        let following = self.follow_in(&mut followed, tenant);
        let places = followed.get_mut(&tenant).map(|followers| Arc::clone(followers.places.get_or_insert_default()));
        FollowingEvents { following, places: places.unwrap_or_default() }
    }

    fn follow_in(&self, followed: &mut HashMap<TenantId, Followers>, tenant: TenantId) -> Following {
        let nobody = || Followers { sender: watch::channel(None).0, count: 0, places: None };
        let followers = followed.entry(tenant).or_insert_with(nobody);
        followers.count += 1;
        Following { tenant, followed: Arc::clone(&self.followed), newest: followers.sender.subscribe() }
    }
}

impl Following {
    /// Waits until the tenant is projected up to a place of its partition; answers with a position that holds it. Pends for ever
    /// when announcements stay out.
    pub async fn reached(&mut self, stream_sequence: u64) -> u64 {
        let has_come =
            |newest: &Option<Projected>| newest.as_ref().is_some_and(|newest| newest.stream_sequence >= stream_sequence);
        let newest = self.newest.wait_for(has_come).await;
        let position = newest.ok().and_then(|newest| newest.as_ref().map(|newest| newest.position));
        match position {
            Some(position) => position,
            None => std::future::pending().await,
        }
    }

    /// Waits for the next announcement, at the longest for `patience`.
    pub async fn changed(&mut self, patience: Duration) {
        // Neither silence nor a closed channel is an answer: the caller looks at the database in any case.
        let _changed_or_silent = tokio::time::timeout(patience, self.newest.changed()).await;
    }
}

impl FollowingEvents {
    /// The position of the event at a place of the partition, if an announcement has told it.
    pub fn position_of(&self, stream_sequence: u64) -> Option<u64> {
        lock(&self.places).get(&stream_sequence).copied()
    }

    /// Waits for the next announcement. Pends for ever when announcements stay out.
    pub async fn changed(&mut self) {
        if self.following.newest.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = lock(&self.followed);
        if let Some(followers) = followed.get_mut(&self.tenant) {
            followers.count -= 1;
            if followers.count == 0 {
                followed.remove(&self.tenant);
            }
        }
    }
}

async fn listen(log: Log, followed: Followed, first: impl Stream<Item = Projected>, observer: impl Fn(&Projected)) {
    announce(&followed, first, &observer).await;
    // The client reconnects by itself; a subscription that ends all the same is made again.
    loop {
        tokio::time::sleep(RESUBSCRIBE_DELAY).await;
        match log.projected().await {
            Ok(announced) => announce(&followed, announced, &observer).await,
            Err(error) => tracing::warn!(error = %error, "cannot hear the projectors; subscribers look by themselves"),
        }
    }
}

async fn announce(followed: &Followed, announced: impl Stream<Item = Projected>, observer: &impl Fn(&Projected)) {
    let mut announced = pin!(announced);
    while let Some(projected) = announced.next().await {
        observer(&projected);
        if let Some(followers) = lock(followed).get(&projected.tenant) {
            if let Some(places) = &followers.places {
                remember(&mut lock(places), &projected);
            }
            followers.sender.send_if_modified(|newest| {
                let is_news = newest.as_ref().is_none_or(|newest| projected.position > newest.position);
                if is_news {
                    *newest = Some(projected);
                }
                is_news
            });
        }
    }
}

/// Each is told once, unless a projector has died between announcing it and moving on; then it is told again, and is the same.
fn remember(places: &mut BTreeMap<u64, u64>, projected: &Projected) {
    places.extend(projected.places());
    while places.len() > MAX_PLACES {
        places.pop_first();
    }
}

impl fmt::Debug for Announcements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Announcements")
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_newest_positions_are_remembered_and_no_more() {
        let mut places = BTreeMap::new();
        let count = MAX_PLACES as u64;
        for position in 1..=count + 1 {
            let before = if position > 1 { vec![10 * (position - 1)] } else { Vec::new() };
            let tenant = TenantId(Uuid::nil());
            remember(&mut places, &Projected { tenant, position, stream_sequence: 10 * position, open_calls: None, before });
        }
        assert_eq!(places.len(), MAX_PLACES);
        assert_eq!((places.get(&10), places.get(&20), places.get(&(10 * count + 10))), (None, Some(&2), Some(&(count + 1))));
    }
}
