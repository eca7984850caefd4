use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    client::ClientFilter,
    feed::PAGE,
    mode::Mode,
    rendered::Rendered,
    tail::{Found, News, Tail},
};
use crate::queries::audit::Stretch;

/// A client that is further behind than the feed keeps, and has not taken an event for this long, is dropped.
pub(super) const SLOW: Duration = Duration::from_secs(10);

/// How far one client has come, and what comes next: history from the database, then the live feed, without a gap or a repetition in
/// between. It reads and waits for nothing itself, so every way in which clients, the feed and the database can take turns can be tried.
pub(super) struct Course {
    /// Positions are gapless, so a position alone tells what comes next.
    place: u64,
    /// Up to here the database is read before the feed is listened to again.
    watermark: u64,
    /// The mode that the client knows of.
    told: Mode,
    /// Rows to ask for, as many as fitted lately: what is asked for and does not fit is read in vain.
    rows: usize,
    page: VecDeque<Arc<Rendered>>,
    live: Live,
}

/// A place among the listeners.
#[derive(Debug)]
pub(super) struct Live {
    pub tail: Arc<Tail>,
    /// What it waits for.
    news: watch::Receiver<News>,
    /// Held to be counted, where it waits for the news of a session.
    _counted: Option<watch::Receiver<News>>,
}

/// What is to be done for a client.
#[derive(Debug)]
pub(super) enum Next {
    Event(Arc<Rendered>),
    Mode(Mode),
    /// Read so many rows of the database at the most, and tell [`Course::has_read`].
    Read(Stretch, usize),
    /// Nothing, until the feed has news.
    Wait,
    /// Let it go: it is too slow. It may come back where it was.
    Drop,
}

impl Live {
    pub(super) fn to(tail: &Arc<Tail>, session_id: Option<&str>) -> Self {
        let everything = tail.listen();
        let (news, counted) = match session_id {
            Some(session_id) => (tail.listen_to(session_id), Some(everything)),
            None => (everything, None),
        };
        Self { tail: Arc::clone(tail), news, _counted: counted }
    }
}

impl Course {
    /// After a position. Whoever listens before anything is read can miss nothing between what is read and what is heard.
    pub(super) fn after(place: u64, live: Live) -> Self {
        Self { place, watermark: place, told: Mode::Normal, rows: PAGE, page: VecDeque::new(), live }
    }

    /// What comes next, for a client that has taken so long to take what came before.
    pub(super) fn next(&mut self, filter: &ClientFilter, taken_after: Duration) -> Next {
        if let Some(event) = self.page.pop_front() {
            if self.page.is_empty() {
                self.page.shrink_to_fit();
            }
            return Next::Event(event);
        }
        if self.place < self.watermark {
            return Next::Read(Stretch { after: self.place, up_to: self.watermark }, self.rows);
        }
        // Marked as seen before looking, so that what comes meanwhile is news.
        let mode = self.live.news.borrow_and_update().mode;
        if mode != self.told {
            self.told = mode;
            return Next::Mode(mode);
        }
        match self.find(filter) {
            Found::Event(event) => {
                self.place = event.position;
                Next::Event(event)
            }
            Found::Nothing(position) => {
                self.place = position;
                Next::Wait
            }
            Found::Gone(_) if taken_after > SLOW => Next::Drop,
            // A history, or a burst: it reads the database at its own pace until it has caught up. What is behind the newest, the feed
            // is going to tell.
            Found::Gone(newest) => {
                self.watermark = newest;
                Next::Read(Stretch { after: self.place, up_to: newest }, self.rows)
            }
        }
    }

    /// What the database has of a stretch that was to be read, and whether it has more of it.
    pub(super) fn has_read(&mut self, stretch: Stretch, events: Vec<Arc<Rendered>>, has_more: bool) {
        // Without more, everything up to the end has been seen, filtered or not.
        self.place = match events.last() {
            Some(last) if has_more => last.position,
            _ => stretch.up_to,
        };
        if has_more {
            self.rows = (events.len() * 2).min(PAGE);
        }
        self.page.extend(events);
    }

    /// Returns when the feed has news; whether it still goes on.
    pub(super) async fn news(&mut self) -> bool {
        self.live.news.changed().await.is_ok()
    }

    /// Where a client that is cut off now may go on: it has been told everything up to there that is for it.
    pub(super) fn told_up_to(&self, filter: &ClientFilter) -> Option<u64> {
        if !self.page.is_empty() {
            return None;
        }
        // What others were told meanwhile has not woken it.
        let is_live = self.place >= self.watermark;
        match is_live.then(|| self.find(filter)) {
            Some(Found::Nothing(position)) => Some(position),
            _ => Some(self.place),
        }
    }

    fn find(&self, filter: &ClientFilter) -> Found {
        self.live.tail.find(self.place, filter.session_id.as_deref(), |event| filter.lets_through(event))
    }

    /// How many share the feed.
    pub(super) fn listeners(&self) -> usize {
        self.live.tail.listeners()
    }
}

#[cfg(test)]
mod tests;
