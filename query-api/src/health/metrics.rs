use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

/// What the monitor measures.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    pub lag_events: Family<PartitionLabels, Gauge>,
    pub lag_seconds: Family<ProjectionLabels, Gauge<f64, AtomicU64>>,
    pub log_bytes: Gauge,
    pub log_messages: Gauge,
    pub lane_pending: Family<LaneLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartitionLabels {
    pub projection: String,
    pub partition: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProjectionLabels {
    pub projection: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LaneLabels {
    pub lane: String,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("projection_lag_events", "Events in the log that are not projected yet", metrics.lag_events.clone());
        registry.register("projection_lag_seconds", "Age of the oldest event not projected yet", metrics.lag_seconds.clone());
        registry.register("log_bytes", "Bytes the log holds on disk", metrics.log_bytes.clone());
        registry.register("log_messages", "Events the log holds", metrics.log_messages.clone());
        registry.register("lane_pending", "Calls no worker has been given yet", metrics.lane_pending.clone());
        metrics
    }
}

/// A gauge's value; what does not fit is as high as it gets.
pub(super) fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
