use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use axum::response::sse::Event;
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use toolgate_events::{CallId, TenantId};
use toolgate_security::EventSource;

use super::{
    Feeds,
    feed::PAGE,
    mode::Mode,
    rendered::Rendered,
    tail::{Found, News, Tail},
};
use crate::{
    Error, State,
    queries::audit::{AuditFilter, Stretch},
};

/// A client that is further behind than the feed keeps, and has not taken an event for this long, is dropped.
const SLOW: Duration = Duration::from_secs(10);

/// Which events a client asked for; the default is all of the tenant's.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientFilter {
    pub call_id: Option<CallId>,
    pub session_id: Option<String>,
    pub event_type: Option<String>,
}

impl ClientFilter {
    fn lets_through(&self, event: &Rendered) -> bool {
        self.call_id.is_none_or(|call| call.0 == event.call_id)
            && self.event_type.as_ref().is_none_or(|event_type| *event_type == event.event_type)
            && self.session_id.as_ref().is_none_or(|session| event.session_id.as_ref() == Some(session))
    }
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// After this position, which was asked for or is the newest. A client that is cut off before its first event comes back to it.
    After(u64),
    /// The position asked for cannot be served: the stream goes on from this one.
    Reset(u64),
}

impl Resume {
    /// `oldest` is the first position that can be served. What lies before it is missing to whoever resumes there, and what lies
    /// beyond the newest was never there: both are told.
    pub(crate) fn of(asked: Option<u64>, oldest: u64, newest: u64) -> Self {
        match asked {
            None => Self::After(newest),
            Some(asked) if asked > newest || asked + 1 < oldest => Self::Reset(newest),
            Some(asked) => Self::After(asked),
        }
    }

    fn position(self) -> u64 {
        match self {
            Self::After(position) | Self::Reset(position) => position,
        }
    }
}

/// One client's reading: history from the database, then the live feed, without a gap or a repetition in between.
pub(crate) struct Client {
    feeds: Feeds,
    tenant: TenantId,
    filter: ClientFilter,
    /// Positions are gapless, so a position alone tells what comes next.
    place: u64,
    /// The position of a reset that is still to be told.
    reset: Option<u64>,
    /// The mode that the client knows of.
    told: Mode,
    /// Up to here the database is read before the feed is listened to again.
    watermark: u64,
    /// Rows to ask for, as many as fitted lately: what is asked for and does not fit is read in vain.
    rows: usize,
    page: VecDeque<Rendered>,
    live: Option<Live>,
    /// When an event was handed over, until the next is asked for.
    served_at: Option<Instant>,
}

struct Live {
    tail: Arc<Tail>,
    news: watch::Receiver<News>,
}

enum Step {
    Frame(Event),
    Again,
    End,
}

impl Client {
    pub(crate) fn new(state: &State, tenant: TenantId, filter: ClientFilter, resume: Resume) -> Self {
        let position = resume.position();
        Self {
            feeds: state.feeds.clone(),
            tenant,
            filter,
            place: position,
            reset: matches!(resume, Resume::Reset(_)).then_some(position),
            told: Mode::Normal,
            watermark: position,
            rows: PAGE,
            page: VecDeque::new(),
            live: None,
            served_at: None,
        }
    }

    async fn step(&mut self, taken_after: Duration) -> Result<Step, Error> {
        if let Some(event) = self.page.pop_front() {
            return Ok(Step::Frame(self.serve(&event)));
        }
        if self.place < self.watermark {
            // In a box, because most clients wait most of the time, and then what reading needs is no part of them.
            Box::pin(self.read_history()).await?;
            return Ok(Step::Again);
        }
        let Some(live) = &mut self.live else {
            Box::pin(self.go_live()).await?;
            return Ok(Step::Again);
        };
        // Marked as seen before looking, so that what comes meanwhile is news.
        let mode = live.news.borrow_and_update().mode;
        if mode != self.told {
            self.told = mode;
            return Ok(Step::Frame(self.feeds.modes.frame(mode)));
        }
        match live.tail.find(self.place, |event| self.filter.lets_through(event)) {
            Found::Event(event) => {
                self.place = event.position;
                Ok(Step::Frame(self.serve(&event)))
            }
            Found::Nothing(position) => {
                self.place = position;
                Ok(if live.news.changed().await.is_ok() { Step::Again } else { Step::End })
            }
            Found::Gone if taken_after > SLOW => {
                tracing::info!("dropped a subscriber that was too slow; it may resume where it was");
                Ok(Step::End)
            }
            // A history, or a burst: it reads the database at its own pace until it has caught up.
            Found::Gone => {
                // The feed may have told others everything up to here; what is behind it, it is going to tell.
                self.watermark = live.news.borrow().position;
                Ok(Step::Again)
            }
        }
    }

    fn serve(&mut self, event: &Rendered) -> Event {
        self.served_at = Some(Instant::now());
        event.frame()
    }

    async fn read_history(&mut self) -> Result<(), Error> {
        let filter =
            AuditFilter { call_id: self.filter.call_id, event_type: self.filter.event_type.clone(), ..AuditFilter::default() };
        let stretch = Stretch { after: self.place, up_to: self.watermark };
        let session_id = self.filter.session_id.as_deref();
        let (events, has_more) = self.feeds.read_history(self.tenant, &filter, session_id, stretch, self.rows).await?;
        // Without more, everything up to the watermark has been seen, filtered or not.
        self.place = match events.last() {
            Some(last) if has_more => last.position,
            _ => self.watermark,
        };
        if has_more {
            self.rows = (events.len() * 2).min(PAGE);
        }
        self.page.extend(events);
        Ok(())
    }

    /// Listens before anything is read, so that no event can come between what is read and what is heard.
    async fn go_live(&mut self) -> Result<(), Error> {
        let listener = |tail: &Arc<Tail>| Live { tail: Arc::clone(tail), news: tail.listen() };
        self.live = Some(self.feeds.subscribe(self.tenant, listener).await?);
        Ok(())
    }
}

impl EventSource for Client {
    async fn next(&mut self) -> Option<Event> {
        if let Some(position) = self.reset.take() {
            let position = position.to_string();
            return Some(Event::default().id(&position).event("reset").data(json!({"position": position}).to_string()));
        }
        if self.live.is_none() {
            let mode = self.feeds.mode_of(self.tenant);
            if mode != self.told {
                self.told = mode;
                return Some(self.feeds.modes.frame(mode));
            }
        }
        // The client asks again as soon as the event before has left for the network.
        let taken_after = self.served_at.take().map_or(Duration::ZERO, |at| at.elapsed());
        loop {
            match self.step(taken_after).await {
                Ok(Step::Frame(event)) => return Some(event),
                Ok(Step::Again) => {}
                Ok(Step::End) => return None,
                Err(error) => {
                    // The client comes back with its Last-Event-ID.
                    tracing::warn!(error = %error, "an event stream ended early");
                    return None;
                }
            }
        }
    }

    fn resume_after(&self) -> Option<u64> {
        let is_told = self.reset.is_none() && self.page.is_empty();
        is_told.then_some(self.place)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("tenant", &self.tenant).field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_served_is_reset() {
        for (asked, oldest, newest, resume) in [
            (None, 1, 9, Resume::After(9)),
            (Some(0), 1, 9, Resume::After(0)),
            (Some(8), 1, 9, Resume::After(8)),
            (Some(9), 1, 9, Resume::After(9)),
            (Some(10), 1, 9, Resume::Reset(9)),
            (Some(u64::MAX), 1, 9, Resume::Reset(9)),
            (Some(3), 5, 9, Resume::Reset(9)),
            (Some(4), 5, 9, Resume::After(4)),
            (Some(5), 5, 9, Resume::After(5)),
            (Some(0), 1, 0, Resume::After(0)),
            (Some(1), 1, 0, Resume::Reset(0)),
        ] {
            assert_eq!(Resume::of(asked, oldest, newest), resume, "{asked:?} of {oldest} to {newest}");
        }
    }
}
