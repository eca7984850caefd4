use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use toolgate_events::Partition;

/// How far each partition is, for whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    partitions: BTreeMap<Partition, Standing>,
    events: u64,
}

/// Where one partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The stream sequence that is reached.
    pub reached: u64,
    /// The one to be reached.
    pub target: u64,
}

impl Progress {
    /// Every partition that was begun.
    pub fn partitions(&self) -> BTreeMap<Partition, Standing> {
        self.lock(|inner| inner.partitions.clone())
    }

    /// Events projected by this process.
    pub fn events(&self) -> u64 {
        self.lock(|inner| inner.events)
    }

    pub(super) fn begin(&self, partition: Partition, reached: u64, target: u64) {
        self.lock(|inner| inner.partitions.insert(partition, Standing { reached, target }));
    }

    pub(super) fn reach(&self, partition: Partition, stream_sequence: u64) {
        self.lock(|inner| inner.partitions.entry(partition).or_default().reached = stream_sequence);
    }

    pub(super) fn count(&self, events: usize) {
        self.lock(|inner| inner.events += events as u64);
    }

    fn lock<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        // Numbers stay numbers, whatever panicked while holding it.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
