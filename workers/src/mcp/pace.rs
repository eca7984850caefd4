use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::server::SHORTEST_REFRESH;

/// How often what a server says anew is put down: each time later, while it keeps changing. What is not put down yet is known to
/// its own worker all the same, which does not call it.
#[derive(Debug, Default)]
pub struct Pace {
    /// Hashes of the definitions, as they were put down last.
    tools: HashMap<String, String>,
    pause: Duration,
    changed: Option<Instant>,
}

impl Pace {
    /// Whether what the server says now may be put down.
    pub fn may_write(&mut self, tools: &HashMap<String, String>, now: Instant, refresh: Duration) -> bool {
        if self.tools == *tools {
            return true;
        }
        if !self.until(now).is_zero() {
            return false;
        }
        // Twice the longest pause without a change is an end of it.
        let keeps_changing = self.changed.is_some_and(|changed| now.duration_since(changed) < 2 * refresh);
        self.pause =
            if keeps_changing { (2 * self.pause).clamp(SHORTEST_REFRESH, refresh.max(SHORTEST_REFRESH)) } else { Duration::ZERO };
        self.changed = Some(now);
        self.tools.clone_from(tools);
        true
    }

    /// How long it still takes until another change may be put down.
    pub fn until(&self, now: Instant) -> Duration {
        self.changed.map_or(Duration::ZERO, |changed| (changed + self.pause).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(60);

    /// Seconds at which something is put down when the server is looked at every second.
    fn writes(looks: u64, says: impl Fn(u64) -> u64) -> Vec<u64> {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let mut written = None;
        let mut writes = Vec::new();
        for second in 0..looks {
            let says = says(second);
            let tools = HashMap::from([("t".to_owned(), says.to_string())]);
            if pace.may_write(&tools, began + Duration::from_secs(second), REFRESH) && written != Some(says) {
                written = Some(says);
                writes.push(second);
            }
        }
        writes
    }

    #[test]
    fn a_server_that_keeps_changing_is_put_down_ever_later() {
        assert_eq!(writes(200, |second| second), [0, 1, 2, 4, 8, 16, 32, 64, 124, 184]);
        // Also one that pauses in between, or goes back and forth.
        assert!(writes(3_600, |second| second / 5).len() < 70);
        assert!(writes(3_600, |second| second % 2).len() < 70);
    }

    #[test]
    fn a_change_now_and_then_is_put_down_at_once() {
        assert_eq!(writes(1_000, |second| second / 300), [0, 300, 600, 900]);
        assert_eq!(writes(1_000, |second| u64::from(second >= 500) + u64::from(second >= 501)), [0, 500, 501]);
    }
}
