//! Clients, their feed and the database taking turns in every order that the dice give: nobody is skipped, nobody is told twice.

use tokio::time::Instant;
use toolgate_events::CallId;
use uuid::Uuid;

use super::{
    super::{
        client::Resume,
        mode::Reason,
        rendered::{Rendered, rendered},
    },
    *,
};

const SEEDS: u64 = 200;
const TURNS: usize = 600;
const CLIENTS: usize = 6;

/// SplitMix64: a failed run can be run again from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.roll(many) == 0
    }
}

fn event(position: u64) -> Arc<Rendered> {
    let session_id = Some(format!("s{}", position % 7));
    let event_type = ["requested", "succeeded"][usize::from(position.is_multiple_of(2))].to_owned();
    Arc::new(Rendered { session_id, event_type, call_id: Uuid::from_u128(u128::from(position % 5)), ..rendered(position, 0) })
}

/// What the database has of a stretch at a moment, as a page of so many rows.
fn page(committed: u64, filter: &ClientFilter, stretch: Stretch, rows: usize) -> (Vec<Arc<Rendered>>, bool) {
    let up_to = stretch.up_to.min(committed);
    let mut found: Vec<_> =
        (stretch.after + 1..=up_to).map(event).filter(|event| filter.lets_through(event)).take(rows + 1).collect();
    let has_more = found.len() > rows;
    found.truncate(rows);
    (found, has_more)
}

/// The process: the database, and the one feed of its tenant, which may read while others take their turns.
struct World {
    committed: u64,
    now: Instant,
    feed: Option<Feed>,
}

struct Feed {
    tail: Arc<Tail>,
    position: u64,
    /// A page that is read and not yet told.
    read: Option<Vec<Arc<Rendered>>>,
}

impl World {
    fn feed_turns(&mut self, dice: &mut Dice) {
        let Some(feed) = &mut self.feed else { return };
        if feed.tail.listeners() == 0 && feed.read.is_none() && dice.one_in(2) {
            self.feed = None;
            return;
        }
        match feed.read.take() {
            Some(events) => {
                feed.position = events.last().map_or(feed.position, |newest| newest.position);
                feed.tail.extend(events, self.now);
            }
            None => {
                let rows = 1 + usize::try_from(dice.roll(PAGE as u64)).unwrap();
                feed.read = Some(page(self.committed, &ClientFilter::default(), Stretch::after(feed.position), rows).0);
            }
        }
        feed.tail.forget(self.now);
    }
}

/// A client, and what it does when it is let.
struct Listener {
    filter: ClientFilter,
    /// The last `id` that it has seen.
    last: Option<u64>,
    stage: Stage,
    got: Vec<u64>,
    began_after: Option<u64>,
}

enum Stage {
    Away,
    /// The newest position was read, and the feed has not begun.
    Asking(u64),
    Here(Course),
    /// It sleeps until there is news.
    Waiting(Course),
    /// A page was read and not yet taken.
    Reading(Course, Stretch, Vec<Arc<Rendered>>, bool),
}

impl Listener {
    fn new(number: usize, dice: &mut Dice) -> Self {
        let filter = match number {
            0 | 1 => ClientFilter::default(),
            2 => ClientFilter { session_id: Some("s3".to_owned()), ..ClientFilter::default() },
            3 => ClientFilter { call_id: Some(CallId(Uuid::from_u128(2))), ..ClientFilter::default() },
            4 => ClientFilter { event_type: Some("requested".to_owned()), ..ClientFilter::default() },
            // Nothing ever passes.
            _ => ClientFilter { session_id: Some("none".to_owned()), ..ClientFilter::default() },
        };
        let last = (!dice.one_in(3)).then_some(0);
        Self { filter, last, stage: Stage::Away, got: Vec::new(), began_after: last }
    }

    /// One turn; whether there is nothing left to do.
    fn turns(&mut self, world: &mut World, dice: &mut Dice) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Away) {
            Stage::Away => {
                self.stage = match &world.feed {
                    Some(feed) => Stage::Here(self.begin(&Arc::clone(&feed.tail), world.committed)),
                    None => Stage::Asking(world.committed),
                };
                false
            }
            Stage::Asking(newest) => {
                let tail = match &world.feed {
                    Some(feed) => Arc::clone(&feed.tail),
                    None => {
                        let tail = Arc::new(Tail::after(newest, Mode::Normal));
                        world.feed = Some(Feed { tail: Arc::clone(&tail), position: newest, read: None });
                        tail
                    }
                };
                self.stage = Stage::Here(self.begin(&tail, world.committed));
                false
            }
            Stage::Reading(mut course, stretch, events, has_more) => {
                course.has_read(stretch, events, has_more);
                self.stage = Stage::Here(course);
                false
            }
            Stage::Waiting(course) if !course.live.news.has_changed().unwrap() => {
                self.stage = Stage::Waiting(course);
                true
            }
            Stage::Here(mut course) | Stage::Waiting(mut course) => match course.next(&self.filter, Duration::ZERO) {
                Next::Event(event) => {
                    self.got.push(event.position);
                    self.last = Some(event.position);
                    self.stage = Stage::Here(course);
                    false
                }
                Next::Mode(_) => {
                    self.stage = Stage::Here(course);
                    false
                }
                Next::Read(stretch, rows) => {
                    let rows = rows.min(1 + usize::try_from(dice.roll(PAGE as u64)).unwrap());
                    let (events, has_more) = page(world.committed, &self.filter, stretch, rows);
                    self.stage = Stage::Reading(course, stretch, events, has_more);
                    false
                }
                Next::Wait => {
                    self.stage = Stage::Waiting(course);
                    true
                }
                Next::Drop => unreachable!("it is never slow"),
            },
        }
    }

    fn begin(&mut self, tail: &Arc<Tail>, committed: u64) -> Course {
        let live = Live::to(tail, self.filter.session_id.as_deref());
        let resume = Resume::told(self.last, 1, tail.position()).unwrap_or_else(|| Resume::of(self.last, 1, committed));
        let Resume::After(place) = resume else { panic!("nobody asks for what was never there: {resume:?}") };
        self.began_after.get_or_insert(place);
        // The greeting says it.
        self.last = Some(place);
        Course::after(place, live)
    }

    fn heartbeat(&mut self) {
        let course = match std::mem::replace(&mut self.stage, Stage::Away) {
            Stage::Here(course) | Stage::Waiting(course) | Stage::Reading(course, ..) => course,
            stage => {
                self.stage = stage;
                return;
            }
        };
        if let Some(place) = course.told_up_to(&self.filter) {
            self.last = Some(place);
        }
        // What was under way is begun again.
        self.stage = Stage::Here(course);
    }

    fn expected(&self, committed: u64) -> Vec<u64> {
        let Some(began_after) = self.began_after else { return Vec::new() };
        (began_after + 1..=committed).filter(|position| self.filter.lets_through(&event(*position))).collect()
    }
}

fn play(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = World { committed: dice.roll(50), now: Instant::now(), feed: None };
    let mut listeners: Vec<_> = (0..CLIENTS).map(|number| Listener::new(number, &mut dice)).collect();
    for _ in 0..TURNS {
        let which = usize::try_from(dice.roll(CLIENTS as u64)).unwrap();
        match dice.roll(16) {
            0..2 => world.committed += 1 + dice.roll(10),
            2 if dice.one_in(40) => world.committed += 2_500,
            2..5 => world.feed_turns(&mut dice),
            // What is kept grows old.
            5 if dice.one_in(4) => world.now += Duration::from_secs(dice.roll(40)),
            6 if dice.one_in(3) => listeners[which].stage = Stage::Away,
            7 => listeners[which].heartbeat(),
            8 if dice.one_in(8) => {
                let mode = if dice.one_in(2) { Mode::Safe(Reason::Lag) } else { Mode::Normal };
                world.feed.iter().for_each(|feed| feed.tail.set_mode(mode));
            }
            _ => {
                listeners[which].turns(&mut world, &mut dice);
            }
        }
    }
    // Everybody may finish.
    for listener in &mut listeners {
        while !(listener.turns(&mut world, &mut dice)
            && world.feed.as_ref().is_some_and(|feed| feed.position == world.committed && feed.read.is_none()))
        {
            world.feed_turns(&mut dice);
        }
    }
    for (number, listener) in listeners.iter().enumerate() {
        assert!(listener.got == listener.expected(world.committed), "seed {seed}, client {number}: {:?}", listener.got);
    }
}

#[test]
fn whoever_takes_turns_with_whom_nothing_is_skipped_and_nothing_comes_twice() {
    (0..SEEDS).for_each(play);
}

#[test]
fn only_who_is_slow_and_far_behind_is_dropped() {
    let tail = Arc::new(Tail::after(0, Mode::Normal));
    tail.extend(vec![event(1)], Instant::now());
    let next = |place, taken_after| Course::after(place, Live::to(&tail, None)).next(&ClientFilter::default(), taken_after);
    assert!(matches!(next(0, SLOW * 2), Next::Event(_)), "the feed still has what it needs");
    tail.forget(Instant::now() + Duration::from_secs(60));
    assert!(matches!(next(0, SLOW), Next::Read(..)));
    assert!(matches!(next(0, SLOW + Duration::from_millis(1)), Next::Drop));
    assert!(matches!(next(1, SLOW * 2), Next::Wait));
}
