use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub projected: Counter,
    pub parked: Counter,
    halted: Family<PartitionLabels, Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: u16,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("projected_events", "Events projected", metrics.projected.clone());
        registry.register("projection_parked_events", "Events set aside as not understood", metrics.parked.clone());
        registry.register(
            "projection_halted",
            "1 while a partition is not projected because its log does not continue the checkpoint",
            metrics.halted.clone(),
        );
        metrics
    }

    pub fn halted(&self, partition: u16, halted: bool) {
        self.halted.get_or_create(&PartitionLabels { partition }).set(i64::from(halted));
    }
}
