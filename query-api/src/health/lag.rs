use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Samples kept of a partition that is behind; beyond that its age is told from the oldest alone.
const MAX_SAMPLES: usize = 600;

/// How far one projection is behind one partition, seen through samples of both.
#[derive(Debug)]
pub(super) struct Lag {
    /// When the log was first seen to reach a sequence that is not projected yet.
    unprojected: VecDeque<(Instant, u64)>,
    checkpoint: u64,
    still_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    pub events: u64,
    /// Age of the oldest unprojected event, to within a sample.
    pub age: Duration,
    /// How long the checkpoint has not moved although it could.
    pub still: Duration,
}

impl Lag {
    pub(super) fn new(now: Instant) -> Self {
        Self { unprojected: VecDeque::new(), checkpoint: 0, still_since: now }
    }

    pub(super) fn observe(&mut self, now: Instant, last_sequence: u64, checkpoint: u64) -> Measure {
        if checkpoint != self.checkpoint || checkpoint >= last_sequence {
            self.checkpoint = checkpoint;
            self.still_since = now;
        }
        while self.unprojected.front().is_some_and(|(_, sequence)| *sequence <= checkpoint) {
            self.unprojected.pop_front();
        }
        let is_news = self.unprojected.back().is_none_or(|(_, sequence)| *sequence < last_sequence);
        if last_sequence > checkpoint && is_news {
            if self.unprojected.len() == MAX_SAMPLES {
                self.unprojected.remove(1);
            }
            self.unprojected.push_back((now, last_sequence));
        }
        Measure {
            events: last_sequence.saturating_sub(checkpoint),
            age: self.unprojected.front().map_or(Duration::ZERO, |(seen, _)| now.duration_since(*seen)),
            still: now.duration_since(self.still_since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last measure of samples taken a second apart, as (last sequence, checkpoint).
    fn after(samples: &[(u64, u64)]) -> Measure {
        let begin = Instant::now();
        let mut lag = Lag::new(begin);
        let seconds = (0..).map(Duration::from_secs);
        let measures =
            samples.iter().zip(seconds).map(|(&(last, checkpoint), since)| lag.observe(begin + since, last, checkpoint));
        measures.last().unwrap()
    }

    fn measure(events: u64, age: u64, still: u64) -> Measure {
        Measure { events, age: Duration::from_secs(age), still: Duration::from_secs(still) }
    }

    #[test]
    fn an_idle_log_is_no_lag() {
        assert_eq!(after(&[(0, 0), (0, 0), (0, 0)]), measure(0, 0, 0));
        assert_eq!(after(&[(9, 9), (9, 9)]), measure(0, 0, 0));
    }

    #[test]
    fn a_stopped_projection_grows_old_and_stands_still() {
        assert_eq!(after(&[(5, 5), (6, 5), (7, 5), (8, 5)]), measure(3, 2, 3));
    }

    #[test]
    fn one_that_keeps_up_under_load_is_neither() {
        assert_eq!(after(&[(10, 5), (20, 15), (30, 25)]), measure(5, 0, 0));
    }

    #[test]
    fn a_slow_one_ages_without_standing_still() {
        assert_eq!(after(&[(10, 0), (20, 1), (30, 2)]), measure(28, 2, 0));
    }

    #[test]
    fn samples_are_bounded() {
        let samples: Vec<_> = (1..2_000).map(|last| (last, 0)).collect();
        assert_eq!(after(&samples).age, Duration::from_secs(1_998));
    }
}
