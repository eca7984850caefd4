use futures::{FutureExt, future::BoxFuture};
use toolgate_security::{Counted, Quota, QuotaUnavailable};
use toolgate_store::{CounterName, Counters, Log};

/// The counters of the log's broker, for limits that know nothing of it.
#[derive(Debug)]
pub struct SharedCounters(Counters);

impl SharedCounters {
    pub fn of(log: &Log) -> Self {
        Self(Counters::of(log))
    }
}

impl Quota for SharedCounters {
    fn add(&self, counted: Counted, window: u64, number: i64) -> BoxFuture<'_, Result<u64, QuotaUnavailable>> {
        async move { self.0.add(name(counted, window), number).await.map_err(|error| QuotaUnavailable(error.to_string())) }
            .boxed()
    }

    fn total(&self, counted: Counted, window: u64) -> BoxFuture<'_, Result<u64, QuotaUnavailable>> {
        async move { self.0.total(name(counted, window)).await.map_err(|error| QuotaUnavailable(error.to_string())) }.boxed()
    }
}

fn name(Counted { tenant, tool }: Counted, window: u64) -> CounterName<'static> {
    CounterName { tenant, tool, window }
}
