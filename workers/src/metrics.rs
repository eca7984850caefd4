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
    reused: Family<ReuseLabels, Counter>,
    retried: Family<ToolLabel, Counter>,
    circuits: Family<ToolLabel, Gauge<i64, AtomicI64>>,
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
struct ToolLabel {
    tool: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReuseLabels {
    tool: &'static str,
    kind: &'static str,
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
            reused: Family::default(),
            retried: Family::default(),
            circuits: Family::default(),
            webhooks: Family::default(),
        };
        registry.register("tool_calls_by_tool", "Outcomes recorded, by tool", metrics.tool_calls.clone());
        registry.register_with_unit("tool_duration", "How long an adapter ran", Unit::Seconds, metrics.tool_duration.clone());
        registry.register("lane_in_flight", "Calls held by this worker", metrics.in_flight.clone());
        registry.register("lane_redelivered", "Messages that came again", metrics.redelivered.clone());
        registry.register("lane_parked", "Messages set aside as not understood", metrics.parked.clone());
        registry.register("tool_results_reused", "Outcomes that are an earlier call's, by tool", metrics.reused.clone());
        registry.register("tool_calls_retried", "Attempts after the first, by tool", metrics.retried.clone());
        let circuits = "The worst of a tool's circuit breakers: 0 closed, 1 half-open, 2 open";
        registry.register("circuit_state", circuits, metrics.circuits.clone());
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

    /// An outcome that cost no attempt.
    pub fn reused(&self, tool: &'static str, is_stale: bool) {
        self.tool_calls.get_or_create(&ToolLabels { tool, outcome: "succeeded" }).inc();
        let kind = if is_stale { "stale" } else { "fresh" };
        self.reused.get_or_create(&ReuseLabels { tool, kind }).inc();
    }

    pub fn retried(&self, tool: &'static str) {
        self.retried.get_or_create(&ToolLabel { tool }).inc();
    }

    pub fn circuit_state(&self, tool: &'static str, state: i64) {
        self.circuits.get_or_create(&ToolLabel { tool }).set(state);
    }

    #[cfg(test)]
    pub fn circuit(&self, tool: &'static str) -> i64 {
        self.circuits.get_or_create(&ToolLabel { tool }).get()
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
