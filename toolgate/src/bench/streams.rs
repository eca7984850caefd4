//! Many event streams: what each costs, how soon it begins, and whether anybody misses anything who comes and goes while events
//! come in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use hyper::{StatusCode, body::Incoming};
use serde_json::Map;
use tokio::time::timeout;
use toolgate_events::{
    Authorization, CallId, CallOptions, CallSubject, Envelope, Lane, TenantId, ToolCallEvent, ToolCallRequested,
};
use toolgate_store::Expect;

use super::{
    Error, Options, StreamLoad,
    child::Part,
    figures::Figures,
    http::{Connection, Outgoing},
    load::Sample,
    progress::Bar,
    report::Report,
    stage::Stage,
    tenants::{self, Tenant},
};
use crate::services::Progress;

/// Of so many clients one follows everything; each of the others follows a session of its own.
const EVERYTHING: usize = 100;
/// Streams that are opened one after the other to see how soon they begin.
const PROBES: usize = 200;
/// Streams opened at the same time, and appends under way.
const AT_ONCE: usize = 50;
/// Between two streams opened while events come in.
const BETWEEN_PROBES: Duration = Duration::from_millis(50);
/// A connection on which nothing comes for so long is dead: three heartbeats.
const PATIENCE: Duration = Duration::from_secs(45);
/// Before a client that was refused or cut off tries again, as streams tell it.
const RETRY: Duration = Duration::from_secs(1);
/// A follower that has got nothing new for so long gives up.
const LAST_PATIENCE: Duration = Duration::from_secs(300);
const APPEND_PATIENCE: Duration = Duration::from_secs(30);
/// Opened once, so that what a process needs only once is not counted as a client's.
const WARM_UP: usize = 100;

/// Opens the streams, appends the events, and counts what came.
pub async fn measure(options: &Options, load: StreamLoad, progress: &Progress) -> Result<Report, Error> {
    let mut figures = Figures::default();
    let bar = Bar::new(4 * u64::from(options.runs) + 1);
    for _ in 0..options.runs {
        let stage = Stage::open(options.durable, 1, progress).await?;
        run(&stage, load, &bar, &mut figures).await?;
        stage.close().await;
    }
    Ok(Report::new(options, Some(options.durable), 1, figures, Vec::new()))
}

async fn run(stage: &Stage, load: StreamLoad, bar: &Bar, figures: &mut Figures) -> Result<(), Error> {
    let query_api = stage.start(Part::QueryApi).await?;
    let projector = stage.start(Part::Projector).await?;
    let tenant = stage.tenants.first().ok_or(Error::Token)?;
    let entrance = Entrance { address: query_api.address.as_str().into(), tenant: tenant.clone() };
    let resident = || query_api.resident_bytes().unwrap_or_default();

    bar.step("opening the streams");
    drop(open(&entrance, WARM_UP).await?);
    let before = resident();
    let idle = open(&entrance, load.clients).await?;
    figures.add("streams.idle_kb", per_client(before, resident(), load), None);

    bar.step("opening further streams, one after the other");
    let mut first_byte = Sample::default();
    for _ in 0..PROBES {
        entrance.probe(&mut first_byte).await;
    }
    figures.blame("GET /v1/events", &first_byte);
    let first_byte = first_byte.sorted();
    figures.add("streams.first_byte_p50_ms", first_byte.percentile(0.5), None);
    figures.add("streams.first_byte_p95_ms", first_byte.percentile(0.95), None);
    drop(idle);

    bar.step("following while events come in");
    let heard = Arc::new(Heard::default());
    let followers: Vec<_> = (0..load.clients)
        .map(|number| {
            let session = (number % EVERYTHING != 0).then_some(number);
            let follower = Follower::new(entrance.clone(), load, session, Arc::clone(&heard), Dice::of(number));
            tokio::spawn(follower.run())
        })
        .collect();
    let began = Instant::now();
    let is_over = AtomicBool::new(false);
    let appending = async {
        let positions = append(stage, load).await;
        is_over.store(true, Ordering::Relaxed);
        positions
    };
    let probing = async {
        let mut sample = Sample::default();
        while !is_over.load(Ordering::Relaxed) {
            entrance.probe(&mut sample).await;
            tokio::time::sleep(BETWEEN_PROBES).await;
        }
        sample
    };
    let (positions, busy) = tokio::join!(appending, probing);
    let positions = positions?;
    bar.step("waiting for the last event to arrive");
    let (mut missed, mut skipped, mut given_up) = (0, 0, Sample::default());
    for follower in followers {
        let follower = follower.await.map_err(|error| Error::Bug(error.to_string()))?;
        let unseen = follower.unseen();
        missed += unseen.len();
        // What it was told lies behind it, and never came.
        skipped += unseen.iter().filter(|number| positions[**number] <= follower.told).count();
        if let Some(failure) = follower.given_up {
            given_up.record(Err(failure), began.elapsed());
        }
    }
    let took = began.elapsed();
    figures.add("streams.gave_up", given_up.failed as f64, None);
    figures.blame("a follower gave up", &given_up);
    figures.blame("GET /v1/events", &busy);
    let busy = busy.sorted();
    figures.add("streams.busy_first_byte_p50_ms", busy.percentile(0.5), None);
    figures.add("streams.busy_first_byte_p95_ms", busy.percentile(0.95), None);
    figures.add("streams.busy_kb", per_client(before, query_api.peak_bytes().unwrap_or_default(), load), None);
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    figures.add("streams.delivered", of(&heard.events), None);
    figures.add("streams.delivered_per_second", of(&heard.events) / took.as_secs_f64(), None);
    figures.add("streams.events_per_second", load.events as f64 / took.as_secs_f64(), None);
    figures.add("streams.reconnections", of(&heard.connections), None);
    figures.add("streams.refused", of(&heard.refused), None);
    figures.add("streams.cut_off", of(&heard.cut_off), None);
    figures.add("streams.gaps", missed as f64, None);
    figures.add("streams.skipped", skipped as f64, None);
    figures.add("streams.duplicates", of(&heard.duplicates), None);
    query_api.stop().await?;
    projector.stop().await
}

fn per_client(before: u64, after: u64, load: StreamLoad) -> f64 {
    after.saturating_sub(before) as f64 / 1024.0 / load.clients as f64
}

async fn open(entrance: &Entrance, count: usize) -> Result<Vec<Frames>, Error> {
    let opened = stream::iter(0..count).map(|_| async {
        let mut frames = entrance.open("/v1/events", None).await?;
        frames.next().await.ok_or("a stream ended before its greeting".to_owned())?;
        Ok::<_, String>(frames)
    });
    let opened: Vec<_> = opened.buffer_unordered(AT_ONCE).collect().await;
    opened.into_iter().collect::<Result<_, _>>().map_err(Error::Http)
}

/// Requests for a tool, as the command API would record them; no worker takes them. Answers with their positions: a tenant's events are
/// numbered in the order in which its partition has them.
async fn append(stage: &Stage, load: StreamLoad) -> Result<Vec<u64>, Error> {
    let tenant = TenantId(tenants::id(0));
    let lane = Lane::new("task").map_err(|error| Error::Bug(error.to_string()))?;
    let appends = stream::iter(0..load.events).map(|number| {
        let lane = lane.clone();
        async move {
            let subject = CallSubject::new(stage.log.partitions(), tenant, lane.clone(), CallId(stage.clock.new_id()));
            let event = ToolCallEvent::ToolCallRequested(Box::new(request(lane, number, load)));
            let stamp = stage.clock.stamp("bench", None, None);
            let envelope = Envelope::seal(&event, tenant, subject.call_id, 1, stamp)?;
            let appended = stage.log.append(&subject, &envelope, Expect::NOTHING, None, APPEND_PATIENCE).await;
            let place = appended.map_err(|error| Error::Http(format!("an event could not be appended: {error}")))?;
            Ok::<_, Error>((place, number))
        }
    });
    let mut places: Vec<(u64, usize)> = appends.buffer_unordered(AT_ONCE).try_collect().await?;
    places.sort_unstable();
    let mut positions = vec![0; load.events];
    for (position, (_, number)) in (1..).zip(places) {
        positions[number] = position;
    }
    Ok(positions)
}

fn session(number: usize) -> String {
    format!("bench-{number}")
}

fn request(lane: Lane, number: usize, load: StreamLoad) -> ToolCallRequested {
    let title = "Call the customer back about invoice 2026-0417".into();
    ToolCallRequested {
        tool: "task.create".to_owned(),
        lane,
        arguments: Map::from_iter([("title".to_owned(), title)]),
        session_id: Some(session(number % load.clients)),
        options: CallOptions::default(),
        // Which event it is, for whoever counts.
        request_fingerprint: number.to_string(),
        authorization: Authorization {
            policy_version: "bench".to_owned(),
            rule: "bench".to_owned(),
            principal: "bench".to_owned(),
            roles: vec!["agent".to_owned()],
            permissions: Vec::new(),
            tool_version: 1,
            contract_hash: "bench".to_owned(),
        },
        data_subject: None,
        erased: false,
    }
}

/// Where streams are opened, and as whom.
#[derive(Clone, Debug)]
struct Entrance {
    address: Arc<str>,
    tenant: Tenant,
}

impl Entrance {
    async fn open(&self, path: &str, last_event_id: Option<&str>) -> Result<Frames, String> {
        let mut connection = Connection::open(&self.address).await?;
        let headers: Vec<_> = last_event_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let request = Outgoing { headers: &headers, ..Outgoing::get(path, Some(&self.tenant)) };
        let response = connection.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("GET {path} was answered with {}", response.status()));
        }
        Ok(Frames { _connection: connection, body: response.into_body(), unread: Vec::new() })
    }

    /// Opens a stream and waits for its first byte.
    async fn probe(&self, sample: &mut Sample) {
        let began = Instant::now();
        let opened = async { self.open("/v1/events", None).await?.next().await.ok_or("it ended at once".to_owned()) };
        let opened = opened.await;
        sample.record(opened.map(drop), began.elapsed());
    }
}

/// The frames of an open stream.
struct Frames {
    _connection: Connection,
    body: Incoming,
    unread: Vec<u8>,
}

impl Frames {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.unread.drain(..end + 2).collect();
                return String::from_utf8(frame).ok();
            }
            let frame = self.body.frame().await?.ok()?;
            self.unread.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref));
        }
    }
}

/// What all followers together have got.
#[derive(Debug, Default)]
struct Heard {
    events: AtomicU64,
    duplicates: AtomicU64,
    /// After the first.
    connections: AtomicU64,
    /// Streams that were not opened.
    refused: AtomicU64,
    /// Streams that ended by themselves, or fell silent.
    cut_off: AtomicU64,
}

/// A client that hangs up at random, and comes back with the last position that it has seen.
struct Follower {
    entrance: Entrance,
    path: String,
    heard: Arc<Heard>,
    dice: Dice,
    /// The first event to come, and how many further on the next one is.
    first: usize,
    step: usize,
    /// Which of them have come.
    seen: Vec<bool>,
    last: Option<String>,
    /// `last`, as a number: everything up to here should have come.
    told: u64,
    /// Of the last event.
    position: u64,
    /// Why it does not have everything.
    given_up: Option<String>,
}

/// How a connection ended.
enum Ended {
    /// By the client, which has had enough.
    Left,
    CutOff,
}

impl Follower {
    fn new(entrance: Entrance, load: StreamLoad, own: Option<usize>, heard: Arc<Heard>, dice: Dice) -> Self {
        let path =
            own.map_or_else(|| "/v1/events?after=0".to_owned(), |own| format!("/v1/events?after=0&session_id={}", session(own)));
        let (first, step) = own.map_or((0, 1), |own| (own, load.clients));
        let seen = vec![false; (first..load.events).step_by(step).count()];
        Self { entrance, path, heard, dice, first, step, seen, last: None, told: 0, position: 0, given_up: None }
    }

    async fn run(mut self) -> Self {
        let expected = self.seen.len();
        let mut missing = expected;
        let mut news_at = Instant::now();
        while missing > 0 {
            let patience = 1 + self.dice.roll(expected / 4 + 1);
            let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
            let opened = match timeout(PATIENCE, self.entrance.open(&self.path, self.last.as_deref())).await {
                Ok(opened) => opened,
                Err(_) => Err("a stream was not opened in time".to_owned()),
            };
            let failure = match opened {
                Ok(frames) => {
                    let (news, ended) = self.listen(frames, patience.min(missing)).await;
                    if news > 0 {
                        missing -= news;
                        news_at = Instant::now();
                    }
                    match ended {
                        Ended::Left => None,
                        Ended::CutOff => {
                            count(&self.heard.cut_off);
                            Some("its streams ended before anything new".to_owned())
                        }
                    }
                }
                Err(refusal) => {
                    count(&self.heard.refused);
                    Some(refusal)
                }
            };
            count(&self.heard.connections);
            if let Some(failure) = failure {
                if news_at.elapsed() > LAST_PATIENCE {
                    self.given_up = Some(failure);
                    break;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        self
    }

    /// Answers with how many new events have come.
    async fn listen(&mut self, mut frames: Frames, patience: usize) -> (usize, Ended) {
        let mut news = 0;
        while news < patience {
            let Ok(Some(frame)) = timeout(PATIENCE, frames.next()).await else { return (news, Ended::CutOff) };
            let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.told = id.parse().unwrap_or_default();
                self.last = Some(id.to_owned());
            }
            let number =
                field("data: ").and_then(|data| data.split_once(r#""request_fingerprint":""#)?.1.split_once('"')?.0.parse().ok());
            let Some(number): Option<usize> = number else { continue };
            let is_new = self.mark(number);
            self.heard.events.fetch_add(1, Ordering::Relaxed);
            if is_new {
                news += 1;
            }
            if !is_new || self.told <= self.position {
                self.heard.duplicates.fetch_add(1, Ordering::Relaxed);
            }
            self.position = self.told;
        }
        (news, Ended::Left)
    }

    /// Whether an event was expected, and for the first time.
    fn mark(&mut self, number: usize) -> bool {
        let Some(behind) = number.checked_sub(self.first).filter(|behind| behind % self.step == 0) else { return false };
        self.seen.get_mut(behind / self.step).is_some_and(|seen| !std::mem::replace(seen, true))
    }

    /// The numbers of the events that have not come.
    fn unseen(&self) -> Vec<usize> {
        let unseen = self.seen.iter().enumerate().filter(|(_, seen)| !**seen);
        unseen.map(|(behind, _)| self.first + behind * self.step).collect()
    }
}

/// SplitMix64: the same hang-ups in every run.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn of(client: usize) -> Self {
        Self(client as u64)
    }

    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % below.max(1) as u64).unwrap_or_default()
    }
}
