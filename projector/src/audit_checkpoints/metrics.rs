use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Default)]
pub struct Metrics {
    checkpoints: Family<OutcomeLabels, Counter>,
    complete: Family<SinkLabels, Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    sink: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: &'static str,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "audit_checkpoints",
            "Audit checkpoints, by where they go and what became of them",
            metrics.checkpoints.clone(),
        );
        registry.register(
            "audit_checkpoint_complete_timestamp_seconds",
            "When this place last had an audit checkpoint of the end of every chain, in seconds since 1970",
            metrics.complete.clone(),
        );
        metrics
    }

    pub fn count(&self, sink: &'static str, outcome: &'static str) {
        self.checkpoints.get_or_create(&OutcomeLabels { sink, outcome }).inc();
    }

    pub fn complete(&self, sink: &'static str, at: i64) {
        self.complete.get_or_create(&SinkLabels { sink }).set(at);
    }
}
