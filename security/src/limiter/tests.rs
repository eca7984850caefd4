use std::{collections::HashMap, sync::atomic::AtomicBool};

use futures::{FutureExt, future::join_all};
use uuid::Uuid;

use super::*;

/// Counters in this process, which can be out of reach or slow.
#[derive(Debug, Default)]
struct Counters {
    totals: Mutex<HashMap<(Counted, u64), i64>>,
    additions: AtomicU64,
    reads: AtomicU64,
    away: AtomicBool,
    slow: Option<Arc<tokio::sync::Semaphore>>,
}

impl Counters {
    fn holds(&self, counted: Counted, window: u64) -> i64 {
        self.totals.lock().unwrap().get(&(counted, window)).copied().unwrap_or_default()
    }
}

impl Quota for Counters {
    fn add(&self, counted: Counted, window: u64, number: i64) -> BoxFuture<'_, Result<u64, QuotaUnavailable>> {
        async move {
            if self.away.load(Ordering::Relaxed) {
                return Err(QuotaUnavailable("away".to_owned()));
            }
            self.additions.fetch_add(1, Ordering::Relaxed);
            let total = {
                let mut totals = self.totals.lock().unwrap();
                let total = totals.entry((counted, window)).or_default();
                *total += number;
                *total
            };
            // What is slow is the answer: the addition has been made.
            if let Some(slow) = &self.slow {
                slow.acquire().await.unwrap().forget();
            }
            Ok(u64::try_from(total).unwrap())
        }
        .boxed()
    }

    fn total(&self, counted: Counted, window: u64) -> BoxFuture<'_, Result<u64, QuotaUnavailable>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let total = self.holds(counted, window);
        let away = self.away.load(Ordering::Relaxed);
        async move { if away { Err(QuotaUnavailable("away".to_owned())) } else { Ok(u64::try_from(total).unwrap()) } }.boxed()
    }
}

const COUNTED: Counted = Counted { tenant: TenantId(Uuid::nil()), tool: None };
/// In milliseconds; the beginning of a window.
const BEGAN: i64 = 29_000_000 * 60_000;

/// A limiter whose clock stands where it is put.
fn limiter(counters: &Arc<Counters>) -> (Limiter, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(u64::try_from(BEGAN).unwrap()));
    let shown = Arc::clone(&clock);
    let now = move || DateTime::from_timestamp_millis(i64::try_from(shown.load(Ordering::Relaxed)).unwrap()).unwrap();
    (Limiter::new(Arc::clone(counters) as Arc<dyn Quota>, Arc::new(now)), clock)
}

#[tokio::test]
async fn whoever_has_been_answered_waits_no_more() {
    let counters = Arc::new(Counters::default());
    let (limiter, _) = limiter(&counters);
    // Each asks for a lease of one: a lease for more would mean that those before are still counted as waiting.
    for admitted in 1..=20 {
        assert!(limiter.admit(COUNTED, 60).await.is_ok());
        assert_eq!(counters.holds(COUNTED, 29_000_000), admitted);
    }
    assert_eq!(format!("{limiter:?}").split_whitespace().next(), Some("Limiter"));
}

#[tokio::test]
async fn one_more_than_the_limit_is_refused() {
    let counters = Arc::new(Counters::default());
    let (limiter, clock) = limiter(&counters);
    for remaining in [2, 1, 0] {
        assert_eq!(limiter.admit(COUNTED, 3).await, Ok(Standing { limit: 3, remaining, reset: 60 }));
    }
    let refused = Err(Refusal::Limited(Standing { limit: 3, remaining: 0, reset: 80 }));
    assert_eq!(limiter.admit(COUNTED, 3).await, refused);
    let others = [Counted { tenant: TenantId(Uuid::from_u128(1)), ..COUNTED }, Counted { tool: Some("task.create"), ..COUNTED }];
    for other in others {
        assert!(limiter.admit(other, 3).await.is_ok(), "{other:?} is counted apart");
    }
    clock.fetch_add(79_999, Ordering::Relaxed);
    assert!(limiter.admit(COUNTED, 3).await.is_err());
    clock.fetch_add(1_000, Ordering::Relaxed);
    assert!(limiter.admit(COUNTED, 3).await.is_ok(), "a third of the window before has gone");
    assert!(limiter.admit(COUNTED, 3).await.is_err());
}

#[tokio::test]
async fn a_flood_of_refusals_asks_nobody() {
    let counters = Arc::new(Counters::default());
    let (limiter, _) = limiter(&counters);
    while limiter.admit(COUNTED, 10).await.is_ok() {}
    let asked = counters.additions.load(Ordering::Relaxed);
    for _ in 0..10_000 {
        assert!(matches!(limiter.admit(COUNTED, 10).await, Err(Refusal::Limited(_))));
    }
    assert_eq!(counters.additions.load(Ordering::Relaxed), asked);
    assert_eq!(counters.reads.load(Ordering::Relaxed), 1, "the window before is read once");
    assert_eq!(counters.holds(COUNTED, 29_000_000), 10);
}

#[tokio::test]
async fn those_who_wait_share_one_lease() {
    let slow = Arc::new(tokio::sync::Semaphore::new(0));
    let counters = Arc::new(Counters { slow: Some(Arc::clone(&slow)), ..Counters::default() });
    let (limiter, _) = limiter(&counters);
    let admitting = join_all((0..50).map(|_| limiter.admit(COUNTED, 100)));
    let opening = async {
        // The first lease is asked for by one before the others are counted, the second for all of them.
        slow.add_permits(2);
    };
    let (admitted, ()) = tokio::join!(admitting, opening);
    assert!(admitted.iter().all(Result::is_ok));
    assert!(counters.additions.load(Ordering::Relaxed) <= 2);
    assert!(counters.holds(COUNTED, 29_000_000) <= 51);
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_its_lease_to_others() {
    let slow = Arc::new(tokio::sync::Semaphore::new(0));
    let counters = Arc::new(Counters { slow: Some(Arc::clone(&slow)), ..Counters::default() });
    let (limiter, _) = limiter(&counters);
    assert!(limiter.admit(COUNTED, 1).now_or_never().is_none(), "it waits for its lease, and no longer");
    slow.add_permits(10);
    assert!(limiter.admit(COUNTED, 1).await.is_ok());
    assert_eq!(counters.additions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_counters_nothing_new_is_admitted() {
    let counters = Arc::new(Counters::default());
    let (limiter, clock) = limiter(&counters);
    assert!(limiter.admit(COUNTED, 6_400).await.is_ok());
    counters.away.store(true, Ordering::Relaxed);
    for _ in 1..100 {
        assert!(limiter.admit(COUNTED, 6_400).await.is_ok(), "the lease holds");
    }
    assert_eq!(limiter.admit(COUNTED, 6_400).await, Err(Refusal::Unavailable));
    counters.away.store(false, Ordering::Relaxed);
    assert_eq!(limiter.admit(COUNTED, 6_400).await, Err(Refusal::Unavailable), "not asked again at once");
    clock.fetch_add(250, Ordering::Relaxed);
    assert!(limiter.admit(COUNTED, 6_400).await.is_ok());
}

#[tokio::test]
async fn replicas_share_one_limit() {
    let counters = Arc::new(Counters::default());
    let ((here, _), (there, _)) = (limiter(&counters), limiter(&counters));
    let mut admitted = 0;
    for _ in 0..1_000 {
        for replica in [&here, &there] {
            admitted += u64::from(replica.admit(COUNTED, 640).await.is_ok());
        }
    }
    assert_eq!(admitted, 640);
    assert_eq!(counters.holds(COUNTED, 29_000_000), 640);
}

#[tokio::test]
async fn what_is_too_much_is_returned_to_the_counter() {
    let counters = Arc::new(Counters::default());
    let ((here, _), (there, _)) = (limiter(&counters), limiter(&counters));
    // This replica has heard of one; the other takes all the rest behind its back.
    assert!(here.admit(COUNTED, 640).await.is_ok());
    while there.admit(COUNTED, 640).await.is_ok() {}
    while here.admit(COUNTED, 640).await.is_ok() {}
    assert_eq!(counters.holds(COUNTED, 29_000_000), 640);
}
