//! Pure: what is counted, and when which count is due.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use toolgate_events::{RefusalEvent, TenantId};

/// How long refusals of one kind are counted together. It begins with the tenant's first refusal.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Kinds of refusal that are told apart in one tenant and window. The others are counted as one.
pub const MAX_KINDS: usize = 100;
/// Memory for the kinds of all tenants, in bytes, as far as they are told apart.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The same with those that are not.
const MAX_BYTES_OF_SEVERAL: usize = 2 * MAX_BYTES;
/// What a kind takes besides its texts, roughly.
const BYTES_PER_KIND: usize = 512;

/// Refusals by tenant and kind. A kind is an event that counts nothing.
#[derive(Debug, Default)]
pub struct Ledger {
    windows: HashMap<TenantId, Window>,
    /// When each window ends, in that order.
    ends: VecDeque<(Instant, TenantId)>,
    /// Kinds whose first refusal is not on record yet.
    firsts: VecDeque<(TenantId, Arc<RefusalEvent>)>,
    /// What a window that ended has left.
    rests: VecDeque<(TenantId, Arc<RefusalEvent>, u64)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Window {
    counts: HashMap<Arc<RefusalEvent>, u64>,
    told_apart: usize,
}

/// What became of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The first of its kind: it is due now.
    First,
    /// It is due when the window ends.
    Again,
    /// There are refusals of so many tenants that this one is counted nowhere.
    Lost,
}

impl Ledger {
    pub fn count(&mut self, tenant: TenantId, kind: RefusalEvent, now: Instant) -> Counted {
        if let Some(window) = self.windows.get_mut(&tenant)
            && let Some(count) = window.counts.get_mut(&kind)
        {
            *count += 1;
            return Counted::Again;
        }
        let told_apart = self.windows.get(&tenant).map_or(0, |window| window.told_apart);
        if told_apart < MAX_KINDS && self.bytes + bytes(&kind) <= MAX_BYTES {
            self.insert(tenant, kind, now).told_apart += 1;
            return Counted::First;
        }
        let kind = kind.of_several();
        if let Some(count) = self.windows.get_mut(&tenant).and_then(|window| window.counts.get_mut(&kind)) {
            *count += 1;
            Counted::Again
        } else if self.bytes + bytes(&kind) <= MAX_BYTES_OF_SEVERAL {
            self.insert(tenant, kind, now);
            Counted::First
        } else {
            Counted::Lost
        }
    }

    fn insert(&mut self, tenant: TenantId, kind: RefusalEvent, now: Instant) -> &mut Window {
        self.bytes += bytes(&kind);
        let kind = Arc::new(kind);
        self.firsts.push_back((tenant, Arc::clone(&kind)));
        let ends = &mut self.ends;
        let window = self.windows.entry(tenant).or_insert_with(|| {
            ends.push_back((now + WINDOW, tenant));
            Window::default()
        });
        window.counts.insert(kind, 1);
        window
    }

    /// The next event that is due, with its count. Whoever takes it must record it.
    pub fn take(&mut self, now: Instant) -> Option<(TenantId, RefusalEvent)> {
        // A first is taken before its window can end, so its window still has it.
        if let Some((tenant, kind)) = self.firsts.pop_front() {
            let count = self.windows.get_mut(&tenant).and_then(|window| window.counts.get_mut(&kind)).map(std::mem::take);
            return Some((tenant, RefusalEvent::clone(&kind).counted(count.unwrap_or_default())));
        }
        while self.rests.is_empty() {
            let (_, tenant) = self.ends.pop_front_if(|(end, _)| *end <= now)?;
            for (kind, count) in self.windows.remove(&tenant).unwrap_or_default().counts {
                if count == 0 {
                    self.bytes -= bytes(&kind);
                } else {
                    self.rests.push_back((tenant, kind, count));
                }
            }
        }
        let (tenant, kind, count) = self.rests.pop_front()?;
        self.bytes -= bytes(&kind);
        Some((tenant, Arc::unwrap_or_clone(kind).counted(count)))
    }

    /// When something will be due without another refusal.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }
}

fn bytes(kind: &RefusalEvent) -> usize {
    let of = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
    let texts = match kind {
        RefusalEvent::ToolCallDenied(denied) => {
            denied.principal.as_ref().map_or(0, String::len) + denied.rule.len() + of(&denied.roles) + of(&denied.permissions)
        }
        RefusalEvent::RateLimitExceeded(exceeded) => exceeded.principal.as_ref().map_or(0, String::len),
    };
    BYTES_PER_KIND + texts
}

#[cfg(test)]
mod tests {
    use toolgate_events::{LimitPolicy, RateLimitExceeded};
    use uuid::Uuid;

    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId(Uuid::from_u128(number as u128))
    }

    fn kind(principal: &str) -> RefusalEvent {
        RefusalEvent::RateLimitExceeded(RateLimitExceeded {
            policy: LimitPolicy::Tool,
            tool: Some("task.create".to_owned()),
            limit: 60,
            window_seconds: 60,
            principal: Some(principal.to_owned()),
            refused: 0,
        })
    }

    fn take_all(ledger: &mut Ledger, now: Instant) -> Vec<(TenantId, RefusalEvent)> {
        std::iter::from_fn(|| ledger.take(now)).collect()
    }

    #[test]
    fn the_first_of_a_kind_is_due_at_once_and_the_rest_when_the_window_ends() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.next_end(), None);
        assert_eq!(ledger.count(tenant(1), kind("ada"), now), Counted::First);
        assert_eq!(ledger.take(now), Some((tenant(1), kind("ada").counted(1))));
        assert_eq!(ledger.take(now), None);
        for _ in 0..9 {
            assert_eq!(ledger.count(tenant(1), kind("ada"), now), Counted::Again);
        }
        assert_eq!(ledger.next_end(), Some(now + WINDOW));
        assert_eq!(ledger.take(now + WINDOW - Duration::from_nanos(1)), None);
        assert_eq!(ledger.take(now + WINDOW), Some((tenant(1), kind("ada").counted(9))));
        assert_eq!((ledger.take(now + WINDOW), ledger.next_end(), ledger.bytes), (None, None, 0));
        // The next window begins with a first again.
        assert_eq!(ledger.count(tenant(1), kind("ada"), now + WINDOW), Counted::First);
        assert_eq!(ledger.next_end(), Some(now + WINDOW * 2));
    }

    #[test]
    fn what_comes_before_the_first_is_taken_counts_with_it_and_a_window_without_rest_ends_in_silence() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for _ in 0..3 {
            ledger.count(tenant(1), kind("ada"), now);
        }
        ledger.count(tenant(1), kind("bob"), now);
        ledger.count(tenant(2), kind("ada"), now);
        let taken = take_all(&mut ledger, now + WINDOW);
        let expected = [(1, "ada", 3), (1, "bob", 1), (2, "ada", 1)];
        assert_eq!(taken, expected.map(|(number, name, count)| (tenant(number), kind(name).counted(count))));
        assert!(ledger.windows.is_empty() && ledger.ends.is_empty());
        assert_eq!(ledger.bytes, 0);
    }

    #[test]
    fn the_hundredth_kind_is_told_apart_and_the_next_is_one_of_several() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for number in 0..MAX_KINDS + 50 {
            let counted = ledger.count(tenant(1), kind(&number.to_string()), now);
            let expected = if number <= MAX_KINDS { Counted::First } else { Counted::Again };
            assert_eq!(counted, expected, "{number}");
        }
        // Another tenant has kinds of its own.
        assert_eq!(ledger.count(tenant(2), kind("200"), now), Counted::First);
        let taken = take_all(&mut ledger, now);
        assert_eq!(taken.len(), MAX_KINDS + 2);
        assert_eq!(taken[MAX_KINDS - 1], (tenant(1), kind("99").counted(1)));
        assert_eq!(taken[MAX_KINDS], (tenant(1), kind("").of_several().counted(50)));
        assert_eq!(taken[MAX_KINDS + 1], (tenant(2), kind("200").counted(1)));
    }

    #[test]
    fn memory_is_bounded_over_all_tenants_and_nothing_is_counted_twice() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let large = "x".repeat(64 * 1024);
        let (mut several, mut lost) = (0, 0);
        for number in 0..100_000 {
            if ledger.count(tenant(number), kind(&large), now) == Counted::Lost {
                lost += 1;
            }
            assert!(ledger.bytes <= MAX_BYTES_OF_SEVERAL);
        }
        let mut counted = 0;
        for (_, event) in take_all(&mut ledger, now + WINDOW) {
            counted += event.refused();
            several += u64::from(event.principal().is_none());
        }
        assert_eq!(counted + lost, 100_000);
        assert_eq!(counted - several, (MAX_BYTES / (64 * 1024 + BYTES_PER_KIND)) as u64);
        assert!(several > 10_000 && lost > 0, "{several} {lost}");
        assert_eq!(ledger.bytes, 0);
    }
}
