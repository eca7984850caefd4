use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// Far more than anything here takes; a test that needs it all has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds. `what` says what was waited for in vain.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    eventually(what, async || condition().await.then_some(())).await;
}

/// Waits until `look` finds something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = interval(POLL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", PATIENCE.as_secs());
    }
}

/// Waits until `count` has reached `target`, as long as it goes on growing: how long a load takes is the machine's affair, and
/// only a standstill is a failure.
pub async fn wait_until_count(what: &str, target: i64, mut count: impl AsyncFnMut() -> i64) {
    let mut last = count().await;
    while last < target {
        let before = last;
        last = eventually(&format!("{what}: stands still at {before} of {target}"), async || {
            let now = count().await;
            (now != before).then_some(now)
        })
        .await;
    }
}
