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
    /// Walks through a partition that found nothing wrong.
    pub walks: Counter,
    mismatches: Counter,
    halted: Family<PartitionLabels, Gauge<i64, AtomicI64>>,
    verified: Family<PartitionLabels, Gauge<i64, AtomicI64>>,
    parked_now: Family<KindLabels, Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("projected_events", "Events projected", metrics.projected.clone());
        registry.register("projection_parked_events", "Events set aside as not understood", metrics.parked.clone());
        registry.register(
            "projection_halted",
            "1 while a partition is not projected because its log and what was projected of it do not agree",
            metrics.halted.clone(),
        );
        registry.register("parked_events", "Events set aside at the moment, of all projectors", metrics.parked_now.clone());
        registry.register(
            "audit_chain_verified_position",
            "Stream sequence up to which the log and the audit trail were seen to agree",
            metrics.verified.clone(),
        );
        registry.register(
            "audit_chain_walks",
            "Times a whole partition was seen to agree with the audit trail",
            metrics.walks.clone(),
        );
        registry.register(
            "audit_chain_mismatches",
            "Times the log and the audit trail were found not to agree",
            metrics.mismatches.clone(),
        );
        metrics
    }

    pub fn mismatch(&self, partition: u16) {
        self.mismatches.inc();
        self.halted(partition, true);
    }

    /// It stays where it was while a new walk comes from behind.
    pub fn agrees_to(&self, partition: u16, stream_sequence: u64) {
        let gauge = self.verified.get_or_create(&PartitionLabels { partition });
        let stream_sequence = i64::try_from(stream_sequence).unwrap_or(i64::MAX);
        if stream_sequence > gauge.get() {
            gauge.set(stream_sequence);
        }
    }

    /// It falls back to before what was found.
    pub fn agrees_only_to(&self, partition: u16, stream_sequence: u64) {
        let gauge = self.verified.get_or_create(&PartitionLabels { partition });
        gauge.set(i64::try_from(stream_sequence).unwrap_or(i64::MAX));
    }

    pub fn parked_now(&self, kind: &'static str, count: i64) {
        self.parked_now.get_or_create(&KindLabels { kind }).set(count);
    }

    pub fn halted(&self, partition: u16, halted: bool) {
        self.halted.get_or_create(&PartitionLabels { partition }).set(i64::from(halted));
    }
}
