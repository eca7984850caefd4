use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{mode::Mode, rendered::Rendered};

/// Events a client may be behind the feed before it falls back on the database, or is dropped.
const MAX_EVENTS: usize = 2_048;
/// The same in bytes: a few large events must not become the memory of the process.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// So long the newest are kept, for whoever follows closely, or comes back with a place that a heartbeat has told. An idle tenant's
/// feed holds nothing.
const KEPT: Duration = Duration::from_secs(30);

/// The newest events of one tenant, for however many listen.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Mutex<Kept>,
    news: watch::Sender<News>,
}

/// What makes listeners look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub position: u64,
    pub mode: Mode,
}

#[derive(Debug, Default)]
struct Kept {
    /// Without a gap between positions.
    events: VecDeque<(Instant, Arc<Rendered>)>,
    /// The position of the newest event, kept or not.
    newest: u64,
    bytes: usize,
    /// Those that somebody follows by itself.
    sessions: HashMap<String, Session>,
}

/// News of one session alone: of a thousand clients that follow a session each, an event wakes the one that it is for.
#[derive(Debug)]
struct Session {
    news: watch::Sender<News>,
    /// Behind this position there is nothing of the session, or of what came before somebody followed it.
    newest: u64,
}

/// What a listener finds after its place.
#[derive(Debug)]
pub(super) enum Found {
    Event(Arc<Rendered>),
    /// Nothing for it up to this position.
    Nothing(u64),
    /// What follows its place is not kept any more: the database has it, up to the newest at least.
    Gone(u64),
}

impl Tail {
    /// Of everything after a position.
    pub(super) fn after(position: u64, mode: Mode) -> Self {
        let kept = Kept { newest: position, ..Kept::default() };
        Self { kept: Mutex::new(kept), news: watch::channel(News { position, mode }).0 }
    }

    /// Hears of every event. Whoever holds this is a listener.
    pub(super) fn listen(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Hears of one session's events, and of the mode.
    pub(super) fn listen_to(&self, session_id: &str) -> watch::Receiver<News> {
        let mut kept = self.kept();
        if let Some(session) = kept.sessions.get(session_id) {
            return session.news.subscribe();
        }
        let (news, listening) = watch::channel(*self.news.borrow());
        let newest = kept.newest;
        kept.sessions.insert(session_id.to_owned(), Session { news, newest });
        listening
    }

    pub(super) fn listeners(&self) -> usize {
        self.news.receiver_count()
    }

    /// The newest position that it has told.
    pub(super) fn position(&self) -> u64 {
        self.news.borrow().position
    }

    pub(super) fn mode(&self) -> Mode {
        self.news.borrow().mode
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        let set = |news: &mut News| {
            let is_changed = news.mode != mode;
            news.mode = mode;
            is_changed
        };
        // Under the lock: who begins to follow a session meanwhile begins with the mode that holds.
        let kept = self.kept();
        if self.news.send_if_modified(set) {
            for session in kept.sessions.values() {
                session.news.send_if_modified(set);
            }
        }
    }

    /// The first event after `place` that `lets_through` takes, which is none of another session than the one given.
    pub(super) fn find(&self, place: u64, session_id: Option<&str>, lets_through: impl Fn(&Rendered) -> bool) -> Found {
        let kept = self.kept();
        if let Some(session) = session_id.and_then(|session_id| kept.sessions.get(session_id))
            && session.newest <= place
        {
            return Found::Nothing(place.max(kept.newest));
        }
        kept.find(place, lets_through)
    }

    /// Adds a page of events, and tells the listeners once.
    pub(super) fn extend(&self, events: Vec<Arc<Rendered>>, now: Instant) {
        let Some(position) = events.last().map(|event| event.position) else { return };
        let mut kept = self.kept();
        let mut spoken_of = HashSet::new();
        for event in &events {
            if let Some(session_id) = &event.session_id
                && let Some(session) = kept.sessions.get_mut(session_id)
            {
                session.newest = event.position;
                spoken_of.insert(session_id.as_str());
            }
            kept.push(Arc::clone(event), now);
        }
        for session in spoken_of.iter().filter_map(|session_id| kept.sessions.get(*session_id)) {
            session.news.send_modify(|news| news.position = position);
        }
        drop(kept);
        self.news.send_modify(|news| news.position = position);
    }

    /// Lets go of what is old.
    pub(super) fn forget(&self, now: Instant) {
        self.kept().forget(now);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change leaves it whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&self, place: u64, lets_through: impl Fn(&Rendered) -> bool) -> Found {
        if place >= self.newest {
            return Found::Nothing(place);
        }
        let first = self.newest + 1 - self.events.len() as u64;
        let Some(behind) = (place + 1).checked_sub(first) else { return Found::Gone(self.newest) };
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let found = self.events.range(behind..).map(|(_, event)| event).find(|event| lets_through(event));
        found.map_or(Found::Nothing(self.newest), |event| Found::Event(Arc::clone(event)))
    }

    fn push(&mut self, event: Arc<Rendered>, now: Instant) {
        if event.position != self.newest + 1 {
            // Places are counted from the newest, so a gap would shift them all: whoever is behind it reads the database.
            tracing::error!(position = event.position, after = self.newest, "positions do not follow each other");
            self.events.clear();
            self.bytes = 0;
        }
        self.newest = event.position;
        self.bytes += event.size();
        self.events.push_back((now, event));
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        self.sessions.retain(|_, session| session.news.receiver_count() > 0);
        while self.events.front().is_some_and(|(since, _)| now.duration_since(*since) >= KEPT) {
            self.drop_oldest();
        }
        if self.events.is_empty() {
            self.events.shrink_to_fit();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, event)) = self.events.pop_front() {
            self.bytes -= event.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rendered::rendered, *};

    fn tail(positions: std::ops::RangeInclusive<u64>, bytes: usize, now: Instant) -> Tail {
        let tail = Tail::after(positions.start() - 1, Mode::Normal);
        positions.for_each(|position| tail.extend(vec![Arc::new(rendered(position, bytes))], now));
        tail
    }

    /// What a listener who takes everything gets, and whether it then has to ask the database.
    fn taken(tail: &Tail, mut place: u64) -> (Vec<u64>, bool) {
        let mut taken = Vec::new();
        loop {
            match tail.find(place, None, |_| true) {
                Found::Event(event) => {
                    place = event.position;
                    taken.push(place);
                }
                Found::Nothing(_) => return (taken, false),
                Found::Gone(_) => return (taken, true),
            }
        }
    }

    #[test]
    fn the_hand_off_neither_repeats_nor_skips() {
        let tail = tail(6..=9, 1, Instant::now());
        assert_eq!(taken(&tail, 5), (vec![6, 7, 8, 9], false));
        assert_eq!(taken(&tail, 7), (vec![8, 9], false));
        assert_eq!(taken(&tail, 9), (vec![], false));
        // From the database somebody may be ahead of the feed.
        assert_eq!(taken(&tail, 12), (vec![], false));
        assert_eq!(taken(&tail, 4), (vec![], true), "5 is not there");
        assert_eq!(taken(&Tail::after(5, Mode::Normal), 5), (vec![], false));
        assert_eq!(taken(&Tail::after(5, Mode::Normal), 4), (vec![], true));
    }

    #[test]
    fn a_gap_sends_whoever_is_behind_it_to_the_database() {
        let now = Instant::now();
        let tail = tail(1..=4, 1, now);
        tail.extend(vec![Arc::new(rendered(7, 1))], now);
        for behind in [3, 4, 5] {
            assert!(matches!(tail.find(behind, None, |_| true), Found::Gone(7)), "{behind}");
        }
        assert_eq!(taken(&tail, 6), (vec![7], false));
    }

    #[test]
    fn who_filters_moves_on_all_the_same() {
        let tail = tail(1..=9, 1, Instant::now());
        assert!(matches!(tail.find(2, None, |event| event.position % 5 == 0), Found::Event(event) if event.position == 5));
        assert!(matches!(tail.find(5, None, |event| event.position % 5 == 0), Found::Nothing(9)));
    }

    #[test]
    fn so_many_events_are_kept_and_not_one_more() {
        let most = MAX_EVENTS as u64;
        for (count, first) in [(most - 1, 1), (most, 1), (most + 1, 2)] {
            let tail = tail(1..=count, 1, Instant::now());
            assert_eq!(taken(&tail, first - 1).0.len() as u64, count + 1 - first, "{count}");
            assert!(first == 1 || taken(&tail, first - 2).1, "{count}");
        }
    }

    #[test]
    fn so_many_bytes_are_kept_and_not_one_more() {
        let own = rendered(1, 0).size();
        for (bytes, kept) in [(MAX_BYTES - 2 * own - 1, 2), (MAX_BYTES - 2 * own, 2), (MAX_BYTES - 2 * own + 1, 1)] {
            let now = Instant::now();
            let tail = tail(1..=1, bytes - 10, now);
            tail.extend(vec![Arc::new(rendered(2, 10))], now);
            assert_eq!(tail.kept().events.len(), kept, "{bytes}");
        }
        // One that is larger than all is read from the database by everybody.
        let tail = tail(1..=1, MAX_BYTES, Instant::now());
        assert_eq!(taken(&tail, 0), (vec![], true));
        assert_eq!(tail.kept().bytes, 0);
    }

    #[test]
    fn what_is_old_is_let_go_of() {
        let now = Instant::now();
        let tail = tail(1..=3, 1, now);
        tail.forget(now + KEPT - Duration::from_millis(1));
        assert_eq!(tail.kept().events.len(), 3);
        tail.forget(now + KEPT);
        let kept = tail.kept();
        assert_eq!((kept.events.len(), kept.bytes), (0, 0));
        drop(kept);
        assert_eq!(taken(&tail, 3), (vec![], false));
        assert_eq!(taken(&tail, 2), (vec![], true));
    }

    #[test]
    fn who_follows_a_session_is_woken_by_it_alone_and_by_the_mode() {
        let now = Instant::now();
        let of = |position, session: &str| Arc::new(Rendered { session_id: Some(session.to_owned()), ..rendered(position, 1) });
        let tail = Tail::after(0, Mode::Normal);
        let (mut everything, mut own) = (tail.listen(), tail.listen_to("a"));
        let mut woken = || {
            let woken = (everything.has_changed().unwrap(), own.has_changed().unwrap());
            everything.borrow_and_update();
            own.borrow_and_update();
            woken
        };
        tail.extend(vec![of(1, "b"), Arc::new(rendered(2, 1))], now);
        assert_eq!(woken(), (true, false));
        tail.extend(vec![of(3, "a"), of(4, "b")], now);
        assert_eq!(woken(), (true, true));
        tail.set_mode(Mode::Safe(super::super::mode::Reason::Lag));
        assert_eq!(woken(), (true, true));
        assert_eq!(tail.listen_to("c").borrow().mode, tail.mode());

        // Although nothing is kept, there is nothing for it behind its last event.
        tail.forget(now + KEPT);
        let find = |place| tail.find(place, Some("a"), |event| event.session_id.as_deref() == Some("a"));
        assert!(matches!(find(3), Found::Nothing(4)));
        assert!(matches!(find(2), Found::Gone(4)));
        // Nobody follows "c" any more.
        assert_eq!(tail.kept().sessions.len(), 1);
    }
}
