//! How long runs took, counted in fixed buckets, so that quantiles follow from the counts alone and counts can be added up.

use serde::{Deserialize, Serialize};

/// Up to here every millisecond has a bucket of its own.
const EXACT: u32 = 16;
/// From there on, each doubling is cut into so many buckets of equal width: a bucket is at most an eighth of its values wide.
const PER_DOUBLING: u32 = 8;
/// The last bucket holds everything longer (some 49 days).
const LONGEST: u64 = u32::MAX as u64;

/// Counts of runs by their duration in whole milliseconds. The buckets are part of what is stored and never change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// As long as the last bucket that counts anything needs.
    counts: Vec<u64>,
}

impl Latency {
    /// As stored.
    pub fn from_counts(counts: Vec<u64>) -> Self {
        Self { counts }
    }

    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub fn add(&mut self, duration_ms: u64) {
        let bucket = bucket(duration_ms);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// Everything that another one counts as well.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    pub fn runs(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The duration that so many percent of the runs did not exceed, in milliseconds: the largest of its bucket, so never less than
    /// what was measured, and at most an eighth more. `None` when nothing was counted.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.runs() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map(largest_of)
    }
}

/// The bucket of a duration.
fn bucket(duration_ms: u64) -> usize {
    let value = u32::try_from(duration_ms.min(LONGEST)).unwrap_or(u32::MAX);
    if value < EXACT {
        return value as usize;
    }
    // How often it was doubled since the exact ones, and which eighth of the doubling it lies in.
    let doubling = value.ilog2() - EXACT.ilog2();
    let part = (value >> (value.ilog2() - PER_DOUBLING.ilog2())) - PER_DOUBLING;
    (EXACT + doubling * PER_DOUBLING + part) as usize
}

/// The longest duration in a bucket.
fn largest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (exact, per_doubling) = (u64::from(EXACT), u64::from(PER_DOUBLING));
    if bucket < exact {
        return bucket;
    }
    let (doubling, part) = ((bucket - exact) / per_doubling, (bucket - exact) % per_doubling);
    let width = (exact << doubling) / per_doubling;
    (exact << doubling) + (part + 1) * width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        assert_eq!((bucket(15), bucket(16), bucket(17), bucket(18)), (15, 16, 16, 17));
        for duration in (0..100_000).chain([1 << 20, u64::from(u32::MAX) - 1]) {
            let (here, next) = (bucket(duration), bucket(duration + 1));
            assert!(next == here || next == here + 1, "{duration}");
            assert!(duration <= largest_of(here), "{duration}");
            assert_eq!(next > here, duration == largest_of(here), "{duration}");
            assert!(largest_of(here) - duration <= duration / 8, "{duration}: {}", largest_of(here));
        }
        assert_eq!(bucket(u64::MAX), bucket(LONGEST));
        assert_eq!(largest_of(bucket(u64::MAX)), LONGEST);
    }

    #[test]
    fn quantiles_are_those_of_the_counts() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(50), None);
        latency.add(7);
        assert_eq!([50, 95, 99, 100].map(|percent| latency.percentile(percent)), [Some(7); 4]);
        for duration in 1..=99 {
            latency.add(duration % 10);
        }
        // 7 and 0 to 9, ten times each.
        assert_eq!(latency.runs(), 100);
        assert_eq!(latency.percentile(1), Some(0));
        assert_eq!(latency.percentile(50), Some(5));
        assert_eq!(latency.percentile(99), Some(9));
        latency.add(1000);
        assert_eq!((latency.percentile(99), latency.percentile(100)), (Some(9), Some(1023)));
    }

    #[test]
    fn what_is_added_up_is_what_was_counted_together() {
        let durations = [0, 3, 15, 16, 900, 70_000, u64::MAX, 3];
        let count = |durations: &[u64]| {
            let mut latency = Latency::default();
            durations.iter().for_each(|duration| latency.add(*duration));
            latency
        };
        for cut in 0..=durations.len() {
            let (mut first, second) = (count(&durations[..cut]), count(&durations[cut..]));
            first.merge(&second);
            assert_eq!(first, count(&durations));
        }
    }
}
