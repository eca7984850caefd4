//! How many calls of each tenant have no outcome yet, as far as this replica can know without a database.
//!
//! The projector announces how many there are up to a place of the log; what this replica has appended behind that place comes on
//! top. What other replicas have appended there is not known: the cap can be exceeded by what they accept until it is projected.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::time::Instant;
use toolgate_events::TenantId;
use toolgate_store::Projected;

/// Tenants remembered at the most; of another one nothing is known until the next announcement.
const CAPACITY: u64 = 50_000;
/// Groups of appends remembered per tenant at the most; then groups become twice as large.
const MAX_GROUPS: usize = 1_024;
/// Announcements may be lost, and a tenant whose calls have all finished has none to come. So after this silence one call is let
/// through, whose own announcement tells; as long as it tells of a full house the next silence is twice as long.
const FIRST_SILENCE: Duration = Duration::from_secs(5);
const LAST_SILENCE: Duration = Duration::from_secs(60);
/// How old a doubt is when an announcement settles it: one that comes sooner may be about what is before it in the log.
const DOUBT: Duration = Duration::from_secs(5);

/// The open calls of every tenant.
#[derive(Clone)]
pub struct OpenCalls {
    most: u64,
    tenants: Cache<TenantId, Arc<Mutex<Tenant>>>,
}

/// Room for one call. Dropping it gives the room back, unless the call was appended, or may have been.
pub struct Room {
    tenant: Arc<Mutex<Tenant>>,
}

#[derive(Debug)]
struct Tenant {
    /// As announced, up to `projected`.
    announced: u64,
    projected: u64,
    /// This replica's appends behind that, in order.
    appended: Vec<Group>,
    /// Calls in one group at the most.
    grain: u64,
    /// Appends under way.
    pending: u64,
    /// Calls that may be in the log, and since when that is not known of the last of them.
    doubtful: u64,
    doubted: Instant,
    heard: Instant,
    silence: Duration,
}

/// Appends that count as open until the last of them is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    last: u64,
    calls: u64,
}

impl OpenCalls {
    pub fn new(most: u64) -> Self {
        Self { most, tenants: Cache::new(CAPACITY) }
    }

    /// How many calls a tenant may have open.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Room for one more call, if there is any.
    pub fn take(&self, tenant: TenantId, now: Instant) -> Option<Room> {
        let tenant = self.tenant(tenant, now);
        let has_room = lock(&tenant).take(self.most, now);
        has_room.then(|| Room { tenant })
    }

    /// Hears an announcement.
    pub fn projected(&self, projected: &Projected, now: Instant) {
        let Some(open) = projected.open_calls else { return };
        lock(&self.tenant(projected.tenant, now)).projected(open, projected.stream_sequence, self.most, now);
    }

    fn tenant(&self, tenant: TenantId, now: Instant) -> Arc<Mutex<Tenant>> {
        self.tenants.get_with(tenant, || Arc::new(Mutex::new(Tenant::new(now))))
    }
}

impl Room {
    /// The call is in the log, at this place of the tenant's partition.
    pub fn appended(self, stream_sequence: u64) {
        lock(&self.tenant).appended(stream_sequence);
    }

    /// The log did not say whether it has the call: it counts as open until an announcement must know of it. Where none comes, the
    /// call that is let through after a silence brings one.
    pub fn in_doubt(self, now: Instant) {
        let mut tenant = lock(&self.tenant);
        tenant.doubtful += 1;
        tenant.doubted = now;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.tenant).pending -= 1;
    }
}

impl Tenant {
    fn new(now: Instant) -> Self {
        Self {
            announced: 0,
            projected: 0,
            appended: Vec::new(),
            grain: 1,
            pending: 0,
            doubtful: 0,
            doubted: now,
            heard: now,
            silence: FIRST_SILENCE,
        }
    }

    fn open(&self) -> u64 {
        let appended: u64 = self.appended.iter().map(|group| group.calls).sum();
        self.announced.saturating_add(appended).saturating_add(self.pending).saturating_add(self.doubtful)
    }

    fn take(&mut self, most: u64, now: Instant) -> bool {
        if self.open() >= most {
            if now.duration_since(self.heard) < self.silence {
                return false;
            }
            self.heard = now;
            self.silence = (self.silence * 2).min(LAST_SILENCE);
        }
        self.pending += 1;
        true
    }

    fn appended(&mut self, stream_sequence: u64) {
        if stream_sequence <= self.projected {
            return;
        }
        match self.appended.last_mut() {
            // Acknowledgements of one tenant's appends may overtake each other.
            Some(group) if stream_sequence <= group.last || group.calls < self.grain => {
                *group = Group { last: group.last.max(stream_sequence), calls: group.calls + 1 };
            }
            _ => self.appended.push(Group { last: stream_sequence, calls: 1 }),
        }
        if self.appended.len() > MAX_GROUPS {
            self.grain *= 2;
            self.appended = self.appended.chunks(2).map(together).collect();
        }
    }

    fn projected(&mut self, open: u64, stream_sequence: u64, most: u64, now: Instant) {
        if stream_sequence <= self.projected {
            return;
        }
        self.announced = open;
        self.projected = stream_sequence;
        self.appended.retain(|group| group.last > stream_sequence);
        if self.appended.is_empty() {
            self.grain = 1;
        }
        if now.duration_since(self.doubted) >= DOUBT {
            self.doubtful = 0;
        }
        self.heard = now;
        if open < most {
            self.silence = FIRST_SILENCE;
        }
    }
}

fn together(groups: &[Group]) -> Group {
    let last = groups.last().map_or(0, |group| group.last);
    Group { last, calls: groups.iter().map(|group| group.calls).sum() }
}

fn lock(tenant: &Mutex<Tenant>) -> MutexGuard<'_, Tenant> {
    // Counts stay counts whatever panicked while holding them.
    tenant.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for OpenCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCalls").field("most", &self.most).finish_non_exhaustive()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::nil());

    fn projected(open_calls: u64, stream_sequence: u64) -> Projected {
        Projected { tenant: TENANT, position: 1, stream_sequence, open_calls: Some(open_calls), before: Vec::new() }
    }

    #[tokio::test]
    async fn there_is_room_for_as_many_calls_as_may_be_open() {
        let (calls, now) = (OpenCalls::new(3), Instant::now());
        let mut rooms: Vec<_> = (0..3).map(|_| calls.take(TENANT, now).unwrap()).collect();
        assert!(calls.take(TENANT, now).is_none(), "appends under way count");
        assert!(calls.take(TenantId(Uuid::from_u128(1)), now).is_some(), "another tenant has room of its own");
        rooms.pop().unwrap().appended(7);
        assert!(calls.take(TENANT, now).is_none(), "appended calls count");
        drop(rooms.pop());
        let room = calls.take(TENANT, now).unwrap();
        assert!(calls.take(TENANT, now).is_none());
        room.appended(8);
        calls.projected(&projected(1, 7), now);
        assert!(calls.take(TENANT, now).is_none(), "one projected, one appended behind that, one under way");
        calls.projected(&projected(1, 8), now);
        let held = calls.take(TENANT, now).unwrap();
        assert!(calls.take(TENANT, now).is_none());
        drop((rooms, held));
        calls.projected(&projected(3, 9), now);
        assert!(calls.take(TENANT, now).is_none());
        calls.projected(&projected(2, 10), now);
        assert!(calls.take(TENANT, now).is_some());
    }

    #[tokio::test]
    async fn what_is_announced_late_changes_nothing() {
        let (calls, now) = (OpenCalls::new(1), Instant::now());
        calls.projected(&projected(1, 10), now);
        calls.projected(&projected(0, 9), now);
        calls.projected(&projected(0, 10), now);
        assert!(calls.take(TENANT, now).is_none());
        calls.projected(&Projected { open_calls: None, ..projected(0, 11) }, now);
        assert!(calls.take(TENANT, now).is_none(), "a projector that does not say");
        calls.projected(&projected(0, 11), now);
        calls.take(TENANT, now).unwrap().appended(11);
        assert!(calls.take(TENANT, now).is_some(), "the announcement was faster than the acknowledgement");
    }

    #[tokio::test]
    async fn after_a_silence_one_call_is_let_through() {
        let (calls, began) = (OpenCalls::new(1), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        calls.projected(&projected(1, 1), began);
        assert!(calls.take(TENANT, at(5) - Duration::from_millis(1)).is_none());
        calls.take(TENANT, at(5)).unwrap().appended(2);
        assert!(calls.take(TENANT, at(5)).is_none());
        // It tells that nothing has changed: the next silence is twice as long.
        calls.projected(&projected(2, 2), at(6));
        assert!(calls.take(TENANT, at(15)).is_none());
        assert!(calls.take(TENANT, at(16)).is_some());
        for (seconds, silence) in [(100, 20), (200, 40), (300, 60), (400, 60)] {
            calls.projected(&projected(2, seconds), at(seconds));
            assert!(calls.take(TENANT, at(seconds + silence - 1)).is_none(), "{seconds}");
            assert!(calls.take(TENANT, at(seconds + silence)).is_some(), "{seconds}");
        }
        calls.projected(&projected(0, 1_000), at(1_000));
        calls.projected(&projected(1, 1_001), at(1_001));
        assert!(calls.take(TENANT, at(1_006)).is_some(), "it was heard that there was room: short silences again");
    }

    #[tokio::test]
    async fn a_call_that_may_be_in_the_log_counts_until_an_announcement_must_know_of_it() {
        let (calls, began) = (OpenCalls::new(2), Instant::now());
        for seconds in [0, 1] {
            calls.take(TENANT, began).unwrap().in_doubt(began + Duration::from_secs(seconds));
        }
        let settled = began + Duration::from_secs(1) + DOUBT;
        let before = settled - Duration::from_millis(1);
        calls.projected(&projected(0, 1), before);
        assert!(calls.take(TENANT, before).is_none(), "it may be about what came before");
        calls.projected(&projected(1, 2), settled);
        let _room = calls.take(TENANT, settled).unwrap();
        assert!(calls.take(TENANT, settled).is_none(), "one is announced, one is under way");
    }

    #[tokio::test]
    async fn after_a_silence_one_call_settles_the_doubts() {
        let (calls, began) = (OpenCalls::new(1), Instant::now());
        calls.take(TENANT, began).unwrap().in_doubt(began);
        let heard = began + FIRST_SILENCE;
        calls.take(TENANT, heard).unwrap().appended(1);
        assert!(calls.take(TENANT, heard).is_none());
        calls.projected(&projected(0, 1), heard);
        assert!(calls.take(TENANT, heard).is_some());
    }

    #[test]
    fn what_is_remembered_of_a_tenant_is_bounded_and_never_too_little() {
        let mut tenant = Tenant::new(Instant::now());
        for sequence in 1..=10_000 {
            tenant.appended(sequence);
        }
        assert!(tenant.appended.len() <= MAX_GROUPS);
        assert_eq!(tenant.open(), 10_000);
        tenant.projected(0, 5_000, 1, Instant::now());
        let behind = tenant.open();
        assert!((5_000..5_016).contains(&behind), "{behind}");
        tenant.appended(9_999);
        assert_eq!(tenant.open(), behind + 1, "one that was overtaken");
        tenant.projected(0, 10_000, 1, Instant::now());
        assert_eq!((tenant.open(), tenant.grain), (0, 1));
    }
}
