//! The figures: what is measured, what it should be, and the medians over the runs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::load::Sample;

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Ours divided by the floor.
    RatioAtLeast(f64),
    /// Ours divided by the floor.
    RatioAtMost(f64),
    AtLeast(f64),
    Below(f64),
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub id: &'static str,
    pub name: &'static str,
    pub unit: &'static str,
    pub target: Option<Target>,
}

macro_rules! definitions {
    ($($id:literal, $name:literal, $unit:literal, $target:expr;)*) => {
        &[$(Definition { id: $id, name: $name, unit: $unit, target: $target }),*]
    };
}

/// Every figure, in the order of the table. An id is stable; a name is for people.
pub const DEFINITIONS: &[Definition] = definitions![
    "intake.calls_per_second", "intake, as fast as it goes", "calls/s", Some(Target::RatioAtLeast(0.7));
    "intake.cpu_us_per_call", "  processor time of the handler", "µs/call", None;
    "intake.p50_ms", "intake at a fixed rate, p50", "ms", None;
    "intake.p95_ms", "  p95", "ms", None;
    "intake.p99_ms", "  p99", "ms", None;
    "intake.rate", "  the fixed rate", "calls/s", None;
    "road.one_caller_p50_ms", "whole road, one caller, p50", "ms", Some(Target::RatioAtMost(2.0));
    "road.one_caller_p99_ms", "  p99", "ms", None;
    "road.calls_per_second", "whole road, as fast as it goes", "calls/s", Some(Target::RatioAtLeast(0.5));
    "road.command_api_us_per_call", "  processor time of the command-api", "µs/call", None;
    "road.worker_us_per_call", "  processor time of the worker", "µs/call", None;
    "road.projector_us_per_call", "  processor time of the projector", "µs/call", None;
    "road.p50_ms", "whole road at a fixed rate, p50", "ms", None;
    "road.p95_ms", "  p95", "ms", None;
    "road.p99_ms", "  p99", "ms", None;
    "road.rate", "  the fixed rate", "calls/s", None;
    "cached_call_p50", "a synchronous call answered from the cache, p50", "ms", None;
    "cached_call_p95", "  p95", "ms", Some(Target::Below(20.0));
    "cached_call_p99", "  p99", "ms", None;
    "sse.first_byte_p95_ms", "first SSE byte under that load, p95", "ms", Some(Target::Below(50.0));
    "sse.first_event_p95_ms", "  first event, p95", "ms", None;
    "lag.visible_p50_ms", "from the answer until a query shows it, p50", "ms", None;
    "lag.visible_p95_ms", "  p95", "ms", None;
    "lag.events", "projection lag, the most seen", "events", None;
    "catch_up.events_per_second", "projection from a backlog", "events/s", Some(Target::AtLeast(10_000.0));
    "catch_up.events", "  the backlog", "events", None;
    "fairness.p50_ms", "a call beside a flood, floor: alone, p50", "ms", None;
    "fairness.p95_ms", "  p95", "ms", Some(Target::RatioAtMost(1.5));
    "fairness.p99_ms", "  p99", "ms", None;
    "fairness.flood_per_second", "  the flood", "calls/s", None;
    "fairness.admitted_per_second", "  what the flood got", "calls/s", None;
    "streams.idle_kb", "an idle event stream, memory", "KB", Some(Target::Below(40.0));
    "streams.first_byte_p50_ms", "a further stream, first byte, p50", "ms", None;
    "streams.first_byte_p95_ms", "  p95", "ms", Some(Target::Below(50.0));
    "streams.delivered", "followers who come and go: events delivered", "events", None;
    "streams.gaps", "  missed", "events", Some(Target::Below(1.0));
    "streams.skipped", "    passed over by the server", "events", Some(Target::Below(1.0));
    "streams.gave_up", "    not waited for: followers who gave up", "", Some(Target::Below(1.0));
    "streams.duplicates", "  delivered twice", "events", Some(Target::Below(1.0));
    "streams.reconnections", "  reconnections", "", None;
    "streams.refused", "  refused, and tried again", "", None;
    "streams.cut_off", "  cut off, and come back", "", None;
    "streams.events_per_second", "  events appended and told to everybody", "events/s", None;
    "streams.delivered_per_second", "  delivered", "events/s", None;
    "streams.busy_kb", "  memory of each, the most ever", "KB", Some(Target::Below(40.0));
    "streams.busy_first_byte_p50_ms", "  first byte meanwhile, p50", "ms", None;
    "streams.busy_first_byte_p95_ms", "  p95", "ms", Some(Target::Below(50.0));
    "memory.command_api_mb", "memory of the command-api, the most ever", "MB", Some(Target::Below(80.0));
    "memory.worker_mb", "  of the worker", "MB", Some(Target::Below(80.0));
    "memory.projector_mb", "  of the projector", "MB", Some(Target::Below(80.0));
    "memory.query_api_mb", "  of the query-api", "MB", Some(Target::Below(80.0));
];

/// The measurements of all runs.
#[derive(Debug, Default)]
pub struct Figures {
    runs: BTreeMap<&'static str, Vec<(f64, Option<f64>)>>,
    pub failed_requests: u64,
    pub first_failure: Option<String>,
}

impl Figures {
    /// One run's measurement, beside the floor's from the same run where there is one.
    pub fn add(&mut self, id: &'static str, ours: f64, floor: Option<f64>) {
        self.runs.entry(id).or_default().push((ours, floor));
    }

    /// Three percentiles at once: `ids` are those of p50, p95 and p99.
    pub fn add_percentiles(&mut self, ids: [&'static str; 3], ours: &Sample, floor: Option<&Sample>) {
        for (id, share) in ids.into_iter().zip([0.5, 0.95, 0.99]) {
            self.add(id, ours.percentile(share), floor.map(|floor| floor.percentile(share)));
        }
    }

    /// Counts what failed in a sample.
    pub fn blame(&mut self, part: &str, sample: &Sample) {
        self.failed_requests += sample.failed;
        if let Some(failure) = &sample.failure {
            self.first_failure.get_or_insert_with(|| format!("{part}: {failure}"));
        }
    }

    /// What came out, figure by figure.
    pub fn rows(&self) -> Vec<Row> {
        DEFINITIONS.iter().filter_map(|definition| Some(Row::of(definition, self.runs.get(definition.id)?))).collect()
    }
}

/// A figure over all runs.
#[derive(Debug, Serialize)]
pub struct Row {
    pub id: &'static str,
    #[serde(skip)]
    pub name: &'static str,
    pub unit: &'static str,
    pub ours: Spread,
    pub floor: Option<Spread>,
    /// Of each run's own pair: what disturbs a run disturbs both.
    pub ratio: Option<Spread>,
    pub target: Option<String>,
    pub met: Option<bool>,
}

/// The middle and the ends of several runs.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub runs: Vec<f64>,
}

impl Row {
    fn of(definition: &Definition, runs: &[(f64, Option<f64>)]) -> Self {
        let Definition { id, name, unit, target } = *definition;
        let ours = Spread::of(runs.iter().map(|(ours, _)| *ours).collect());
        let floor: Vec<_> = runs.iter().filter_map(|(_, floor)| *floor).collect();
        let ratio: Vec<_> = runs.iter().filter_map(|(ours, floor)| Some(ours / floor.filter(|floor| *floor > 0.0)?)).collect();
        let spread = |values: Vec<f64>| (!values.is_empty()).then(|| Spread::of(values));
        let ratio = spread(ratio);
        let met = target.and_then(|target| target.is_met(ours.median, ratio.as_ref().map(|ratio| ratio.median)));
        Self { id, name, unit, ours, floor: spread(floor), ratio, target: target.map(|target| target.to_string()), met }
    }
}

impl Spread {
    fn of(runs: Vec<f64>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let middle = sorted.len() / 2;
        let median =
            if sorted.len().is_multiple_of(2) { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) };
        Self { median, least: at(0), most: at(sorted.len().saturating_sub(1)), runs }
    }
}

impl Target {
    /// `None` when it is about a floor that was not measured.
    fn is_met(self, ours: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::AtLeast(least) => Some(ours >= least),
            Self::Below(most) => Some(ours < most),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(least) => write!(f, "≥ {least} of the floor"),
            Self::RatioAtMost(most) => write!(f, "≤ {most} × the floor"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::Below(most) => write!(f, "< {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_each_runs_own() {
        let mut figures = Figures::default();
        for (ours, floor) in [(50.0, 100.0), (80.0, 100.0), (10.0, 10.0)] {
            figures.add("intake.calls_per_second", ours, Some(floor));
        }
        let row = &figures.rows()[0];
        assert_eq!((row.ours.median, row.ours.least, row.ours.most), (50.0, 10.0, 80.0));
        assert_eq!((row.ratio.as_ref().unwrap().median, row.met), (0.8, Some(true)));
    }

    #[test]
    fn a_target_about_a_floor_says_nothing_without_one() {
        let mut figures = Figures::default();
        figures.add("road.calls_per_second", 5.0, None);
        assert_eq!(figures.rows()[0].met, None);
    }

    #[test]
    fn an_even_number_of_runs_has_a_middle() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<_> = DEFINITIONS.iter().map(|definition| definition.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), DEFINITIONS.len());
    }
}
