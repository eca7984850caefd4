use std::sync::atomic::AtomicU64;

use chrono::Utc;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a reading of the key set went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Changed,
    Unchanged,
    Failed,
}

/// `jwks_refreshes_total{outcome}` and `jwks_last_success_timestamp_seconds`.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    refreshes: Family<Labels, Counter>,
    last_success: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("jwks_refreshes", "Readings of the token keys, by outcome", metrics.refreshes.clone());
        let help = "When the token keys were last read, in seconds since 1970";
        registry.register("jwks_last_success_timestamp_seconds", help, metrics.last_success.clone());
        metrics
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let name = match outcome {
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
            Outcome::Failed => "failed",
        };
        self.refreshes.get_or_create(&Labels { outcome: name }).inc();
        if outcome != Outcome::Failed {
            #[expect(clippy::disallowed_methods, reason = "a metric of a time on the clock")]
            let now = Utc::now();
            self.last_success.set(now.timestamp_micros() as f64 / 1e6);
        }
    }
}
