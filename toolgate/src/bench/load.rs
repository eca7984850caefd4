//! Load: callers that each wait for their answer, either as fast as they can or on a fixed schedule.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};

/// Dropped at the start of every measurement.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// The pacing thread sleeps at least this long, so that it does not take a core for itself.
const TICK: Duration = Duration::from_micros(100);

/// One request after the other.
pub trait Caller: Send + 'static {
    /// Sends one request and checks its answer.
    fn call(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Sample {
    /// Of successful requests, sorted.
    latencies: Vec<Duration>,
    /// Requests answered with anything but success.
    pub failed: u64,
    /// What the first of them was answered with.
    pub failure: Option<String>,
    measured: Duration,
}

impl Sample {
    /// Successful requests per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.measured.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The latency that `share` of the requests stayed within, in milliseconds; 0 without requests.
    pub fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the vector")]
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }

    pub fn record(&mut self, outcome: Result<(), String>, latency: Duration) {
        match outcome {
            Ok(()) => self.latencies.push(latency),
            Err(failure) => {
                self.failed += 1;
                self.failure.get_or_insert(failure);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
    }

    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.latencies.sort_unstable();
        self
    }
}

/// Every caller sends its next request when the last is answered: what the system can carry.
pub async fn closed<C: Caller>(callers: &mut Vec<C>, measured: Duration) -> Sample {
    let from = Instant::now() + WARM_UP;
    let until = from + measured;
    run(callers, measured, move |mut caller| async move {
        let mut sample = Sample::default();
        loop {
            let sent = Instant::now();
            if sent >= until {
                return (caller, sample);
            }
            let outcome = caller.call().await;
            let answered = Instant::now();
            if answered >= from && answered < until {
                sample.record(outcome, answered - sent);
            }
        }
    })
    .await
}

/// Requests are due on a schedule, `per_second` of them, whether or not the answers keep up; each latency counts from when its
/// request was due. A slow answer so lengthens the latencies of those that had to wait for it, as it does for real callers.
pub async fn open<C: Caller>(callers: &mut Vec<C>, per_second: f64, measured: Duration) -> Sample {
    let interval = Duration::from_secs_f64(1.0 / per_second.max(1.0));
    let due_in = |span: Duration| (span.as_nanos() / interval.as_nanos().max(1)) as u64;
    let (dropped, total) = (due_in(WARM_UP), due_in(WARM_UP + measured));
    let schedule = Arc::new(Schedule { began: Instant::now(), interval, due: Semaphore::new(0), next: AtomicU64::new(0), total });
    let pacing = Arc::clone(&schedule);
    let spare = callers.len();
    // A thread, because timers of the runtime are only good to a millisecond.
    let pacer = std::thread::spawn(move || pacing.pace(spare));
    let sample = run(callers, measured, move |mut caller| {
        let schedule = Arc::clone(&schedule);
        async move {
            let mut sample = Sample::default();
            while let Some((number, due)) = schedule.next().await {
                let outcome = caller.call().await;
                if number >= dropped {
                    sample.record(outcome, due.elapsed());
                }
            }
            (caller, sample)
        }
    })
    .await;
    // It has released everything, or nobody would have ended.
    drop(pacer);
    sample
}

struct Schedule {
    began: Instant,
    interval: Duration,
    due: Semaphore,
    next: AtomicU64,
    total: u64,
}

impl Schedule {
    /// The next request that is due, or `None` at the end.
    async fn next(&self) -> Option<(u64, Instant)> {
        self.due.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then(|| (number, self.began + self.interval.mul_f64(number as f64)))
    }

    /// Releases requests as they fall due, and in the end one more for each caller, so that all of them see the end.
    fn pace(&self, callers: usize) {
        let mut released = 0;
        while released < self.total {
            let due = (self.began.elapsed().as_nanos() / self.interval.as_nanos().max(1)) as u64 + 1;
            let now = due.min(self.total).saturating_sub(released);
            self.due.add_permits(usize::try_from(now).unwrap_or_default());
            released += now;
            std::thread::sleep(self.interval.clamp(TICK, Duration::from_millis(10)));
        }
        self.due.add_permits(callers);
    }
}

async fn run<C, F, R>(callers: &mut Vec<C>, measured: Duration, each: F) -> Sample
where
    C: Caller,
    F: Fn(C) -> R,
    R: Future<Output = (C, Sample)> + Send + 'static,
{
    let mut running: JoinSet<_> = callers.drain(..).map(each).collect();
    let mut whole = Sample { measured, ..Sample::default() };
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((caller, sample)) => {
                callers.push(caller);
                whole.add(sample);
            }
            Err(error) => whole.record(Err(error.to_string()), Duration::ZERO),
        }
    }
    whole.sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stalls(u64);

    impl Caller for Stalls {
        async fn call(&mut self) -> Result<(), String> {
            self.0 += 1;
            // The hundredth request after the warm-up stalls, and those behind it wait.
            if self.0 == 200 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stall_counts_for_everybody_who_was_due_meanwhile() {
        let sample = open(&mut vec![Stalls(0)], 100.0, Duration::from_secs(2)).await;
        assert!((sample.rate() - 100.0).abs() < 2.0, "{}", sample.rate());
        // 30 of 200 requests were due during the stall: more than a tenth waited, though only one was slow itself.
        assert!(sample.percentile(0.9) > 50.0, "{}", sample.percentile(0.9));
        assert!(sample.percentile(0.5) < 50.0, "{}", sample.percentile(0.5));
    }

    #[test]
    fn percentiles_of_nothing_are_zero() {
        assert_eq!(Sample::default().percentile(0.99), 0.0);
    }
}
