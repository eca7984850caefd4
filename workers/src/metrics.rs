use std::{sync::atomic::AtomicI64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Clone, Debug)]
pub struct Metrics {
    tool_calls: Family<ToolLabels, Counter>,
    tool_duration: Family<ToolLabels, Histogram>,
    in_flight: Family<LaneLabels, Gauge<i64, AtomicI64>>,
    redelivered: Family<LaneLabels, Counter>,
    parked: Family<LaneLabels, Counter>,
    webhooks: Family<WebhookLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolLabels {
    tool: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    lane: String,
}

/// Counts a call as in flight for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Gauge<i64, AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            tool_calls: Family::default(),
            tool_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 18))),
            in_flight: Family::default(),
            redelivered: Family::default(),
            parked: Family::default(),
            webhooks: Family::default(),
        };
        registry.register("tool_calls_by_tool", "Outcomes recorded, by tool", metrics.tool_calls.clone());
        registry.register_with_unit("tool_duration", "How long an adapter ran", Unit::Seconds, metrics.tool_duration.clone());
        registry.register("lane_in_flight", "Calls held by this worker", metrics.in_flight.clone());
        registry.register("lane_redelivered", "Messages that came again", metrics.redelivered.clone());
        registry.register("lane_parked", "Messages set aside as not understood", metrics.parked.clone());
        registry.register(
            "webhook_deliveries",
            "Attempts to tell outcomes of tasks, by what came of them",
            metrics.webhooks.clone(),
        );
        metrics
    }

    pub fn outcome(&self, tool: &'static str, outcome: &'static str, took: Duration) {
        let labels = ToolLabels { tool, outcome };
        self.tool_calls.get_or_create(&labels).inc();
        self.tool_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn in_flight(&self, lane: &str) -> InFlight {
        let gauge = self.in_flight.get_or_create(&LaneLabels { lane: lane.to_owned() }).clone();
        gauge.inc();
        InFlight(gauge)
    }

    pub fn redelivered(&self, lane: &str) {
        self.redelivered.get_or_create(&LaneLabels { lane: lane.to_owned() }).inc();
    }

    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&WebhookLabels { outcome }).inc();
    }

    pub fn parked(&self, lane: &str) {
        self.parked.get_or_create(&LaneLabels { lane: lane.to_owned() }).inc();
    }
}
