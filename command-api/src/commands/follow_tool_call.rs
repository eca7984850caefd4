use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};
use toolgate_events::{CallId, CallSubject, Envelope, Event, Lane, TenantId, ToolCallEvent};
use toolgate_store::{FollowingEvents, LoadError, Recorded, WaitForReply};

use crate::State;

/// How long an event may wait for its position; then it goes without.
const POSITION_PATIENCE: Duration = Duration::from_secs(2);
/// Between looks into the log, when nothing is heard: the pause doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// What is heard of a busy tenant is mostly about other calls, so it leads to a look this often at the most, and less often the
/// longer nothing comes of it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// One event of the call that is followed.
#[derive(Debug)]
pub struct Followed {
    pub envelope: Envelope,
    /// Where an announcement has told it in time.
    pub position: Option<u64>,
}

/// Hears of a call's outcome and of its events' positions. To miss nothing, it is there before the call is appended.
#[derive(Debug)]
pub struct Ear {
    waiting: WaitForReply,
    following: FollowingEvents,
}

/// A call that is followed from its first event to its outcome.
#[derive(Debug)]
pub struct FollowedCall {
    state: State,
    subject: CallSubject,
    ear: Ear,
    /// Up to which place of the partition the call's events are read.
    read: u64,
    unsent: VecDeque<Unsent>,
    is_finished: bool,
    was_announced: bool,
    looked: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Unsent {
    recorded: Recorded,
    /// When it goes without a position.
    until: Instant,
}

impl Ear {
    pub fn open(state: &State, tenant: TenantId, call: CallId) -> Self {
        Self { waiting: state.replies.wait_for(call), following: state.announcements.follow_events(tenant) }
    }
}

impl FollowedCall {
    pub fn new(state: &State, tenant: TenantId, lane: Lane, call: CallId, ear: Ear) -> Self {
        Self {
            state: state.clone(),
            subject: CallSubject::new(state.log.partitions(), tenant, lane, call),
            ear,
            read: 0,
            unsent: VecDeque::new(),
            is_finished: false,
            was_announced: false,
            looked: Instant::now(),
            pause: Duration::ZERO,
        }
    }

    /// The next event, in order; `None` after the outcome. The log is the truth and what is announced only says when to look: a lost
    /// announcement costs time, never an event. Whoever stops waiting may wait again.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(position) = self.first_is_ready() {
                return self.unsent.pop_front().map(|first| Followed { envelope: first.recorded.envelope, position });
            }
            if self.is_finished && self.unsent.is_empty() {
                return None;
            }
            let look = self.looked + self.pause;
            if !self.is_finished && look <= Instant::now() {
                self.look().await;
                continue;
            }
            let impatient = self.unsent.front().map(|first| first.until);
            let wake = if self.is_finished { impatient } else { Some(impatient.map_or(look, |until| until.min(look))) };
            tokio::select! {
                _ = self.ear.waiting.outcome(), if !self.was_announced => {
                    self.was_announced = true;
                    self.pause = Duration::ZERO;
                }
                () = self.ear.following.changed() => {
                    let soonest = self.pause / 4;
                    self.pause = self.pause.min(soonest.max(SHORTEST_PAUSE));
                }
                () = sleep_until(wake.unwrap_or(look)) => {}
            }
        }
    }

    /// With its position, or without when its patience has ended.
    fn first_is_ready(&self) -> Option<Option<u64>> {
        let first = self.unsent.front()?;
        match self.ear.following.position_of(first.recorded.stream_sequence) {
            Some(position) => Some(Some(position)),
            None => (first.until <= Instant::now()).then_some(None),
        }
    }

    async fn look(&mut self) {
        let (news, read) = match self.state.log.load_after(&self.subject, self.read).await {
            Ok(news) => news,
            Err(error) => {
                self.could_not_look(&error);
                return;
            }
        };
        let now = Instant::now();
        self.pause = if news.is_empty() { self.next_pause() } else { FIRST_PAUSE };
        self.looked = now;
        self.read = read;
        for recorded in news {
            self.is_finished |= is_outcome(&recorded.envelope);
            let until = now + self.patience_with(&recorded.envelope);
            self.unsent.push_back(Unsent { recorded, until });
        }
    }

    /// The call is accepted: a log that cannot be read for a moment delays its events and does not end them.
    fn could_not_look(&mut self, error: &LoadError) {
        if self.pause < LAST_PAUSE {
            tracing::warn!(error = %error, subject = %self.subject, "the log could not be read for a call that is followed");
        }
        self.looked = Instant::now();
        self.pause = self.next_pause();
    }

    fn next_pause(&self) -> Duration {
        (self.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE)
    }

    /// Nobody will say again what was announced before anybody listened: an old event has nothing to wait for.
    fn patience_with(&self, envelope: &Envelope) -> Duration {
        let age = (self.state.clock.now() - envelope.occurred_at).to_std().unwrap_or_default();
        POSITION_PATIENCE.saturating_sub(age)
    }
}

/// Whether nothing follows. What this release cannot understand, or nobody can open, is shown as it is, and its type says what it is.
fn is_outcome(envelope: &Envelope) -> bool {
    match envelope.event() {
        Ok(Event::ToolCall(event)) => event.is_outcome(),
        Ok(_) => false,
        Err(_) => {
            [ToolCallEvent::SUCCEEDED, ToolCallEvent::FAILED, ToolCallEvent::CANCELLED].contains(&envelope.event_type.as_str())
        }
    }
}
