//! Circuit breakers: whoever keeps failing is left alone for a while, and then tried with one call at a time.
//!
//! A breaker belongs to a tenant, a tool and an upstream, so that nobody's calls can shut others out. There is one only where
//! something has failed lately, and their number is bounded.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use toolgate_events::TenantId;

use crate::metrics::Metrics;

/// How far back failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// Of these, the newest attempts alone.
const ATTEMPTS: usize = 20;
/// Fewer attempts say nothing; from here on half of them must have failed.
const LEAST_ATTEMPTS: usize = 5;
/// The longest time a breaker stays open, in units of the first.
const LONGEST: u32 = 12;
/// Breakers kept at the most; beyond that the one that was used longest ago is forgotten.
const MOST_BREAKERS: usize = 1_024;

/// Whose attempts a breaker counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub tool: &'static str,
    pub tenant: TenantId,
    pub upstream: Option<String>,
}

/// Where a breaker stands. Their order is that of the metric `circuit_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Closed,
    /// One attempt is under way that decides.
    HalfOpen {
        wait: Duration,
    },
    Open {
        until: Instant,
        wait: Duration,
    },
}

#[derive(Debug)]
struct Breaker {
    state: State,
    /// When, and whether it failed; oldest first.
    attempts: VecDeque<(Instant, bool)>,
    used: Instant,
}

/// The breakers of one worker.
#[derive(Debug)]
pub struct Breakers {
    first_wait: Duration,
    metrics: Metrics,
    breakers: Mutex<HashMap<Key, Breaker>>,
}

/// An attempt that may be made. Dropped without a verdict, it counts for nothing.
#[derive(Debug)]
pub struct Permit<'a> {
    breakers: &'a Breakers,
    key: Option<Key>,
    is_probe: bool,
}

/// The upstream is being left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open;

impl Breakers {
    pub fn new(first_wait: Duration, metrics: Metrics) -> Self {
        Self { first_wait, metrics, breakers: Mutex::default() }
    }

    /// # Errors
    /// [`Open`]
    pub fn admit(&self, key: Key, now: Instant) -> Result<Permit<'_>, Open> {
        let mut breakers = self.lock();
        let mut is_probe = false;
        if let Some(breaker) = breakers.get_mut(&key) {
            breaker.used = now;
            match breaker.state {
                State::Closed => {}
                State::Open { until, wait } if until <= now => {
                    breaker.state = State::HalfOpen { wait };
                    is_probe = true;
                }
                State::HalfOpen { .. } | State::Open { .. } => return Err(Open),
            }
        }
        if is_probe {
            self.show(&breakers, key.tool);
        }
        drop(breakers);
        Ok(Permit { breakers: self, key: Some(key), is_probe })
    }

    fn settle(&self, key: Key, is_probe: bool, failed: bool, now: Instant) {
        let mut breakers = self.lock();
        let tool = key.tool;
        let Some(breaker) = breakers.get_mut(&key) else {
            if failed {
                make_room(&mut breakers);
                breakers.insert(key, Breaker { state: State::Closed, attempts: VecDeque::from([(now, true)]), used: now });
            }
            return;
        };
        breaker.used = now;
        match breaker.state {
            State::HalfOpen { wait } if is_probe && failed => {
                let wait = (wait * 2).min(self.first_wait * LONGEST);
                breaker.state = State::Open { until: now + wait, wait };
            }
            State::HalfOpen { .. } if is_probe => {
                breakers.remove(&key);
            }
            State::Closed => {
                breaker.count(now, failed);
                if failed && breaker.has_had_enough() {
                    tracing::warn!(tool, upstream = key.upstream.as_deref(), "a circuit breaker has opened");
                    breaker.state = State::Open { until: now + self.first_wait, wait: self.first_wait };
                    breaker.attempts.clear();
                } else if breaker.attempts.iter().all(|(_, failed)| !failed) {
                    breakers.remove(&key);
                }
            }
            // It began before the breaker opened.
            State::HalfOpen { .. } | State::Open { .. } => return,
        }
        self.show(&breakers, tool);
    }

    /// The probe decided nothing: the next attempt is one.
    fn give_back(&self, key: &Key) {
        let mut breakers = self.lock();
        if let Some(breaker) = breakers.get_mut(key)
            && let State::HalfOpen { wait } = breaker.state
        {
            breaker.state = State::Open { until: breaker.used, wait };
        }
        self.show(&breakers, key.tool);
    }

    /// The worst of a tool's breakers.
    fn show(&self, breakers: &HashMap<Key, Breaker>, tool: &'static str) {
        let states = breakers.iter().filter(|(key, _)| key.tool == tool).map(|(_, breaker)| breaker.state.number());
        self.metrics.circuit_state(tool, states.max().unwrap_or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Breaker>> {
        // Each change of a breaker is one assignment.
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(breakers: &mut HashMap<Key, Breaker>) {
    if breakers.len() >= MOST_BREAKERS
        && let Some(oldest) = breakers.iter().min_by_key(|(_, breaker)| breaker.used).map(|(key, _)| key.clone())
    {
        breakers.remove(&oldest);
    }
}

impl State {
    fn number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen { .. } => 1,
            Self::Open { .. } => 2,
        }
    }
}

impl Breaker {
    fn count(&mut self, now: Instant, failed: bool) {
        self.attempts.push_back((now, failed));
        while self.attempts.len() > ATTEMPTS || self.attempts.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.attempts.pop_front();
        }
    }

    fn has_had_enough(&self) -> bool {
        let failed = self.attempts.iter().filter(|(_, failed)| *failed).count();
        self.attempts.len() >= LEAST_ATTEMPTS && failed * 2 >= self.attempts.len()
    }
}

impl Permit<'_> {
    /// The other side answered.
    pub fn succeeded(self, now: Instant) {
        self.settle(false, now);
    }

    /// The other side failed.
    pub fn failed(self, now: Instant) {
        self.settle(true, now);
    }

    fn settle(mut self, failed: bool, now: Instant) {
        if let Some(key) = self.key.take() {
            self.breakers.settle(key, self.is_probe, failed, now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take().filter(|_| self.is_probe) {
            self.breakers.give_back(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use uuid::Uuid;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn breakers() -> Breakers {
        Breakers::new(WAIT, Metrics::register(&mut Registry::default()))
    }

    fn key(upstream: &str) -> Key {
        Key { tool: "http.request", tenant: TenantId(Uuid::nil()), upstream: Some(upstream.to_owned()) }
    }

    fn fail(breakers: &Breakers, upstream: &str, times: usize, now: Instant) {
        for _ in 0..times {
            breakers.admit(key(upstream), now).unwrap().failed(now);
        }
    }

    fn is_open(breakers: &Breakers, upstream: &str, now: Instant) -> bool {
        breakers.admit(key(upstream), now).is_err()
    }

    #[test]
    fn so_many_failures_open_it_and_one_less_does_not() {
        let (breakers, now) = (breakers(), Instant::now());
        fail(&breakers, "dead", LEAST_ATTEMPTS - 1, now);
        assert!(!is_open(&breakers, "dead", now));
        fail(&breakers, "dead", 1, now);
        assert!(is_open(&breakers, "dead", now));
        assert!(!is_open(&breakers, "other", now), "another upstream");
        let tenant = Key { tenant: TenantId(Uuid::from_u128(1)), ..key("dead") };
        assert!(breakers.admit(tenant, now).is_ok(), "another tenant");
        assert_eq!(breakers.metrics.circuit("http.request"), 2);
    }

    #[test]
    fn half_of_the_attempts_must_fail() {
        let (breakers, now) = (breakers(), Instant::now());
        fail(&breakers, "flaky", 1, now);
        for round in 0..40 {
            for _ in 0..2 {
                breakers.admit(key("flaky"), now).unwrap().succeeded(now);
            }
            assert!(!is_open(&breakers, "flaky", now), "round {round}");
            fail(&breakers, "flaky", 1, now);
        }
    }

    #[test]
    fn failures_long_ago_do_not_count_and_what_answers_is_forgotten() {
        let (breakers, now) = (breakers(), Instant::now());
        fail(&breakers, "slow", LEAST_ATTEMPTS - 1, now);
        let later = now + WINDOW + Duration::from_millis(1);
        fail(&breakers, "slow", 1, later);
        assert!(!is_open(&breakers, "slow", later));
        let later = later + WINDOW + Duration::from_millis(1);
        breakers.admit(key("slow"), later).unwrap().succeeded(later);
        assert!(breakers.lock().is_empty());
    }

    #[test]
    fn after_its_time_one_probe_decides() {
        let (breakers, now) = (breakers(), Instant::now());
        fail(&breakers, "dead", LEAST_ATTEMPTS, now);
        assert!(is_open(&breakers, "dead", now + WAIT - Duration::from_millis(1)));
        let probe = breakers.admit(key("dead"), now + WAIT).unwrap();
        assert!(is_open(&breakers, "dead", now + WAIT), "one probe at a time");
        assert_eq!(breakers.metrics.circuit("http.request"), 1);
        probe.failed(now + WAIT);
        // Twice as long now.
        assert!(is_open(&breakers, "dead", now + 3 * WAIT - Duration::from_millis(1)));
        breakers.admit(key("dead"), now + 3 * WAIT).unwrap().succeeded(now + 3 * WAIT);
        assert!(!is_open(&breakers, "dead", now + 3 * WAIT));
        assert_eq!(breakers.metrics.circuit("http.request"), 0);
    }

    #[test]
    fn it_never_stays_open_longer_than_the_longest_time() {
        let (breakers, mut now) = (breakers(), Instant::now());
        fail(&breakers, "dead", LEAST_ATTEMPTS, now);
        for _ in 0..10 {
            now += WAIT * LONGEST;
            breakers.admit(key("dead"), now).unwrap().failed(now);
        }
        assert!(is_open(&breakers, "dead", now + WAIT * LONGEST - Duration::from_millis(1)));
        assert!(!is_open(&breakers, "dead", now + WAIT * LONGEST));
    }

    #[test]
    fn a_probe_that_decides_nothing_is_given_back() {
        let (breakers, now) = (breakers(), Instant::now());
        fail(&breakers, "dead", LEAST_ATTEMPTS, now);
        drop(breakers.admit(key("dead"), now + WAIT).unwrap());
        assert!(!is_open(&breakers, "dead", now + WAIT));
    }

    #[test]
    fn what_began_before_it_opened_changes_nothing() {
        let (breakers, now) = (breakers(), Instant::now());
        let slow = breakers.admit(key("dead"), now).unwrap();
        fail(&breakers, "dead", LEAST_ATTEMPTS, now);
        slow.succeeded(now);
        assert!(is_open(&breakers, "dead", now));
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let (breakers, now) = (breakers(), Instant::now());
        for number in 0..=MOST_BREAKERS {
            fail(&breakers, &number.to_string(), 1, now + Duration::from_millis(number as u64));
        }
        let kept = breakers.lock();
        assert_eq!(kept.len(), MOST_BREAKERS);
        assert!(!kept.contains_key(&key("0")) && kept.contains_key(&key(&MOST_BREAKERS.to_string())));
    }
}
