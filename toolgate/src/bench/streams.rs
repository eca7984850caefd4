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
use futures::{StreamExt, stream};
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
/// A client that gets nothing for so long has missed something.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before a client that was refused tries again, and how often it does that in a row.
const RETRY: Duration = Duration::from_secs(1);
const MAX_FAILURES: u32 = 60;
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
        let appended = append(stage, load).await;
        is_over.store(true, Ordering::Relaxed);
        appended
    };
    let probing = async {
        let mut sample = Sample::default();
        while !is_over.load(Ordering::Relaxed) {
            entrance.probe(&mut sample).await;
            tokio::time::sleep(BETWEEN_PROBES).await;
        }
        sample
    };
    let (appended, busy) = tokio::join!(appending, probing);
    appended?;
    bar.step("waiting for the last event to arrive");
    let mut missed = 0;
    for follower in followers {
        missed += follower.await.map_err(|error| Error::Bug(error.to_string()))?;
    }
    let took = began.elapsed();
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
    figures.add("streams.gaps", missed as f64, None);
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

/// Requests for a tool, as the command API would record them; no worker takes them.
async fn append(stage: &Stage, load: StreamLoad) -> Result<(), Error> {
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
            appended.map_err(|error| Error::Http(format!("an event could not be appended: {error}")))?;
            Ok::<_, Error>(())
        }
    });
    let mut appends = appends.buffer_unordered(AT_ONCE);
    while let Some(appended) = appends.next().await {
        appended?;
    }
    Ok(())
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
    position: u64,
}

impl Follower {
    fn new(entrance: Entrance, load: StreamLoad, own: Option<usize>, heard: Arc<Heard>, dice: Dice) -> Self {
        let path =
            own.map_or_else(|| "/v1/events?after=0".to_owned(), |own| format!("/v1/events?after=0&session_id={}", session(own)));
        let (first, step) = own.map_or((0, 1), |own| (own, load.clients));
        let seen = vec![false; (first..load.events).step_by(step).count()];
        Self { entrance, path, heard, dice, first, step, seen, last: None, position: 0 }
    }

    /// Answers with how many events it has missed.
    async fn run(mut self) -> usize {
        let expected = self.seen.len();
        let mut heard = 0;
        let mut failures = 0;
        while heard < expected && failures < MAX_FAILURES {
            let patience = 1 + self.dice.roll(expected / 4 + 1);
            match timeout(PATIENCE, self.entrance.open(&self.path, self.last.as_deref())).await {
                Ok(Ok(frames)) => match self.listen(frames, patience.min(expected - heard)).await {
                    0 => failures += 1,
                    news => {
                        heard += news;
                        failures = 0;
                    }
                },
                // Refused for now, as `Retry-After` says.
                Ok(Err(_)) | Err(_) => {
                    failures += 1;
                    tokio::time::sleep(RETRY).await;
                }
            }
            self.heard.connections.fetch_add(1, Ordering::Relaxed);
        }
        expected - heard
    }

    /// Answers with how many new events have come.
    async fn listen(&mut self, mut frames: Frames, patience: usize) -> usize {
        let mut news = 0;
        while news < patience {
            let Ok(Some(frame)) = timeout(PATIENCE, frames.next()).await else { break };
            let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.last = Some(id.to_owned());
            }
            let number =
                field("data: ").and_then(|data| data.split_once(r#""request_fingerprint":""#)?.1.split_once('"')?.0.parse().ok());
            let Some(number): Option<usize> = number else { continue };
            let position = field("id: ").and_then(|id| id.parse().ok()).unwrap_or_default();
            let is_new = self.mark(number);
            self.heard.events.fetch_add(1, Ordering::Relaxed);
            if is_new && position > self.position {
                news += 1;
            } else {
                self.heard.duplicates.fetch_add(1, Ordering::Relaxed);
            }
            self.position = position;
        }
        news
    }
}

impl Follower {
    /// Whether an event was expected, and for the first time.
    fn mark(&mut self, number: usize) -> bool {
        let Some(behind) = number.checked_sub(self.first).filter(|behind| behind % self.step == 0) else { return false };
        self.seen.get_mut(behind / self.step).is_some_and(|seen| !std::mem::replace(seen, true))
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
