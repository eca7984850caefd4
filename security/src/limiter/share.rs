//! Pure: what one replica knows of one limit of one tenant. Times are milliseconds since the Unix epoch.

/// The length of a window, in milliseconds.
pub const WINDOW: u64 = 60_000;
/// A lease is this part of what is left, so that what replicas hold unused stays small beside the limit.
const LEASES: u64 = 64;
/// After a refusal the counter is not asked again for so long, in milliseconds, even if a permit falls due sooner.
const SHORTEST_CLOSURE: u64 = 10;
/// A refusal is looked at again after this time, in milliseconds: other replicas may have returned permits.
const LONGEST_CLOSURE: u64 = 1_000;
/// How long a counter that did not answer is left alone, in milliseconds.
const PAUSE: u64 = 250;

/// Where a tenant stands with one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Commands per window.
    pub limit: u64,
    /// Commands that would be admitted now, as far as this replica knows.
    pub remaining: u64,
    /// Seconds until the window ends or, after a refusal, until the next permit is due; at least 1.
    pub reset: u64,
}

/// What a command gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    Admitted(Standing),
    Refused(Standing),
    /// The counter did not answer a moment ago.
    Unavailable,
    /// Nothing is known for sure: a lease is to be asked for.
    Lease,
}

/// What to ask the counters for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub window: u64,
    /// Whether the window before has to be read first.
    pub read_previous: bool,
}

/// Two windows and a lease. The estimate of the last 60 seconds is the previous window's total, weighted with the part of it that
/// still lies within them, and the current window's total.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    limit: u64,
    window: u64,
    /// The final count of the window before; read once.
    previous: Option<u64>,
    /// What all replicas have leased in this window, as last heard.
    total: u64,
    /// Leased by this replica and not used.
    permits: u64,
    closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    until: u64,
    because: Because,
}

#[derive(Clone, Copy, Debug)]
enum Because {
    /// The next permit is due at this time.
    Limited {
        due: u64,
    },
    Unavailable,
}

impl Share {
    pub fn new(limit: u64) -> Self {
        Self { limit, window: 0, previous: None, total: 0, permits: 0, closed: None }
    }

    /// Takes a permit, if it is known whether there is one.
    pub fn take(&mut self, now: u64) -> Take {
        self.roll(now);
        if self.permits > 0 {
            self.permits -= 1;
            return Take::Admitted(self.standing(now));
        }
        match self.closed {
            Some(Closed { until, because }) if now < until => match because {
                Because::Limited { due } => Take::Refused(self.refusal(now, due)),
                Because::Unavailable => Take::Unavailable,
            },
            _ => Take::Lease,
        }
    }

    /// What a lease begins with.
    pub fn ask(&mut self, now: u64) -> Ask {
        self.roll(now);
        Ask { window: self.window, read_previous: self.previous.is_none() }
    }

    /// Notes the final count of the window before `window`.
    pub fn heard_previous(&mut self, window: u64, previous: u64) {
        if self.window == window {
            self.previous = Some(previous);
        }
    }

    /// How many permits of `window` to lease while `waiting` commands wait for one; `None` when there are none to be had, as far as
    /// is known, or the window has ended.
    pub fn wanted(&mut self, now: u64, window: u64, waiting: u64) -> Option<u64> {
        self.roll(now);
        if self.window != window {
            return None;
        }
        let room = self.allowed(now).saturating_sub(self.total);
        if room == 0 {
            self.close(now);
            return None;
        }
        Some((room / LEASES).max(waiting).clamp(1, room))
    }

    /// Notes a lease: `wanted` was added to the counter of `window`, which then held `total`. Answers with how much of it is to be
    /// returned, because it would be more than the limit, or came too late.
    pub fn leased(&mut self, now: u64, window: u64, wanted: u64, total: u64) -> u64 {
        self.roll(now);
        if self.window != window {
            return wanted;
        }
        let before = total.saturating_sub(wanted);
        let granted = self.allowed(now).saturating_sub(before).min(wanted);
        // Another replica may have added more than there was, and be about to return it: nobody keeps more than is allowed.
        self.total = (before + granted).min(self.allowed(now));
        self.permits += granted;
        if granted == 0 {
            self.close(now);
        }
        wanted - granted
    }

    /// Notes that the counters did not answer.
    pub fn failed(&mut self, now: u64) {
        self.closed = Some(Closed { until: now + PAUSE, because: Because::Unavailable });
    }

    /// A window that has ended takes its lease with it. A clock that goes backward stays in the window it has reached.
    fn roll(&mut self, now: u64) {
        let window = now / WINDOW;
        if window > self.window {
            *self = Self { window, ..Self::new(self.limit) };
        }
    }

    /// What may be leased in this window up to now.
    fn allowed(&self, now: u64) -> u64 {
        let previous = u128::from(self.previous.unwrap_or_default());
        let weighted = (previous * u128::from(WINDOW - self.elapsed(now))).div_ceil(u128::from(WINDOW));
        self.limit.saturating_sub(u64::try_from(weighted).unwrap_or(u64::MAX))
    }

    fn elapsed(&self, now: u64) -> u64 {
        now.saturating_sub(self.window * WINDOW).min(WINDOW)
    }

    fn close(&mut self, now: u64) {
        let due = self.due(now);
        let until = due.clamp(now + SHORTEST_CLOSURE, now + LONGEST_CLOSURE);
        self.closed = Some(Closed { until, because: Because::Limited { due } });
    }

    /// When one more permit can be had, if nobody else takes it.
    fn due(&self, now: u64) -> u64 {
        let began = self.window * WINDOW;
        if self.total < self.limit {
            let weight_falls_at = began + enough_has_gone(self.previous.unwrap_or_default(), self.limit - self.total - 1);
            weight_falls_at.max(now)
        } else {
            began + WINDOW + enough_has_gone(self.total, self.limit - 1)
        }
    }

    fn standing(&self, now: u64) -> Standing {
        let remaining = self.allowed(now).saturating_sub(self.total) + self.permits;
        Standing { limit: self.limit, remaining, reset: seconds(WINDOW - self.elapsed(now)) }
    }

    fn refusal(&self, now: u64, due: u64) -> Standing {
        Standing { limit: self.limit, remaining: 0, reset: seconds(due.saturating_sub(now)) }
    }
}

/// Milliseconds into a window until the window before it, which counted `previous`, weighs no more than `room`.
fn enough_has_gone(previous: u64, room: u64) -> u64 {
    if previous <= room {
        return 0;
    }
    let may_remain = u128::from(room) * u128::from(WINDOW) / u128::from(previous);
    WINDOW - u64::try_from(may_remain).unwrap_or(WINDOW)
}

fn seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000).max(1)
}

#[cfg(test)]
mod tests;
