//! Safe mode: events in bursts, so that a loaded system reads its database once an interval instead of at every announcement.

use std::time::Duration;

use axum::response::sse::Event;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use toolgate_store::StreamingMode;

/// So long a feed must keep up before it is normal again, in intervals: it must not flicker.
const CALM_INTERVALS: u32 = 5;

/// How often events go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As soon as they are projected.
    Normal,
    /// In bursts.
    Safe(Reason),
}

/// Why a feed is in safe mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Lag,
    Operator,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Operator => "operator",
        }
    }
}

/// When safe mode begins by itself, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct SafeMode {
    /// Between two bursts.
    pub interval: Duration,
    /// A feed whose newest event is older than this begins it; half of it, for a while, ends it.
    pub lag: Duration,
}

/// What operators have chosen, and what is counted. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Modes {
    pub safe: SafeMode,
    chosen: watch::Receiver<StreamingMode>,
    count: Family<Labels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// One feed's mode, counted for as long as it lives.
#[derive(Debug)]
pub(super) struct FeedMode {
    modes: Modes,
    lag: LagSwitch,
    mode: Mode,
}

impl Modes {
    pub(crate) fn register(safe: SafeMode, chosen: watch::Receiver<StreamingMode>, registry: &mut Registry) -> Self {
        let count = Family::default();
        registry.register("sse_safe_mode", "Tenants whose events are streamed in bursts", count.clone());
        for reason in [Reason::Lag, Reason::Operator] {
            drop(count.get_or_create(&Labels { reason: reason.as_str() }));
        }
        Self { safe, chosen, count }
    }

    /// The frame that tells a mode. It has no `id`: it is no place to resume from.
    pub(super) fn frame(&self, mode: Mode) -> Event {
        let data = match mode {
            Mode::Normal => json!({"mode": "normal"}),
            Mode::Safe(reason) => {
                let interval = u64::try_from(self.safe.interval.as_millis()).unwrap_or(u64::MAX);
                json!({"mode": "safe", "reason": reason.as_str(), "interval_ms": interval})
            }
        };
        Event::default().event("mode").data(data.to_string())
    }

    fn gauge(&self, mode: Mode) -> Option<Gauge> {
        match mode {
            Mode::Normal => None,
            Mode::Safe(reason) => Some(self.count.get_or_create(&Labels { reason: reason.as_str() }).clone()),
        }
    }
}

impl FeedMode {
    pub(super) fn new(modes: Modes) -> Self {
        Self { modes, lag: LagSwitch::default(), mode: Mode::Normal }
    }

    /// The mode after the feed has seen how old its newest event is, or that there is none.
    pub(super) fn observe(&mut self, age: Duration, now: Instant) -> Mode {
        let is_late = self.lag.observe(age, self.modes.safe, now);
        let mode = effective(*self.modes.chosen.borrow_and_update(), is_late);
        if mode != self.mode {
            if let Some(gauge) = self.modes.gauge(self.mode) {
                gauge.dec();
            }
            if let Some(gauge) = self.modes.gauge(mode) {
                gauge.inc();
            }
            self.mode = mode;
        }
        mode
    }

    /// Waits until an operator chooses something else.
    pub(super) async fn rechosen(&mut self) {
        if self.modes.chosen.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for FeedMode {
    fn drop(&mut self) {
        if let Some(gauge) = self.modes.gauge(self.mode) {
            gauge.dec();
        }
    }
}

/// Operators have the last word.
fn effective(chosen: StreamingMode, is_late: bool) -> Mode {
    match chosen {
        StreamingMode::On => Mode::Safe(Reason::Operator),
        StreamingMode::Auto if is_late => Mode::Safe(Reason::Lag),
        StreamingMode::Auto | StreamingMode::Off => Mode::Normal,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct LagSwitch {
    is_late: bool,
    calm_since: Option<Instant>,
}

impl LagSwitch {
    fn observe(&mut self, age: Duration, safe: SafeMode, now: Instant) -> bool {
        if age > safe.lag {
            *self = Self { is_late: true, calm_since: None };
        } else if age > safe.lag / 2 {
            self.calm_since = None;
        } else {
            let since = *self.calm_since.get_or_insert(now);
            if now.duration_since(since) >= safe.interval * CALM_INTERVALS {
                self.is_late = false;
            }
        }
        self.is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: SafeMode = SafeMode { interval: Duration::from_secs(1), lag: Duration::from_secs(10) };

    #[test]
    fn lag_begins_it_and_only_lasting_calm_ends_it() {
        let begin = Instant::now();
        let mut switch = LagSwitch::default();
        let mut at = |second, age_ms| switch.observe(Duration::from_millis(age_ms), SAFE, begin + Duration::from_secs(second));
        assert!(!at(0, 9_999) && !at(0, 10_000));
        assert!(at(1, 10_001));
        assert!(at(2, 5_000) && at(6, 5_000), "not calm for long enough");
        assert!(at(6, 5_001) && at(11, 0), "it was late in between");
        assert!(at(15, 0));
        assert!(!at(16, 0));
        assert!(!at(17, 9_000) && at(18, 10_001));
    }

    #[test]
    fn operators_have_the_last_word() {
        for (chosen, late, in_time) in [
            (StreamingMode::Auto, Mode::Safe(Reason::Lag), Mode::Normal),
            (StreamingMode::On, Mode::Safe(Reason::Operator), Mode::Safe(Reason::Operator)),
            (StreamingMode::Off, Mode::Normal, Mode::Normal),
        ] {
            assert_eq!((effective(chosen, true), effective(chosen, false)), (late, in_time));
        }
    }
}
