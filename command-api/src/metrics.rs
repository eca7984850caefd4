use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Clone, Debug)]
pub struct Metrics {
    command_duration: Family<CommandLabels, Histogram>,
    append_duration: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    tool: &'static str,
    outcome: &'static str,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            command_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 18))),
            append_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
        };
        registry.register_with_unit(
            "command_duration",
            "From the request to its answer, waiting included",
            Unit::Seconds,
            metrics.command_duration.clone(),
        );
        registry.register_with_unit(
            "append_duration",
            "From publishing an event to the log's acknowledgement",
            Unit::Seconds,
            metrics.append_duration.clone(),
        );
        metrics
    }

    pub fn command(&self, tool: &'static str, outcome: &'static str, took: Duration) {
        self.command_duration.get_or_create(&CommandLabels { tool, outcome }).observe(took.as_secs_f64());
    }

    pub fn append(&self, took: Duration) {
        self.append_duration.observe(took.as_secs_f64());
    }
}
