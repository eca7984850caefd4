//! One run: ours and the floor in turn, on the same services, in an order that changes from run to run.

use std::time::{Duration, Instant};

use toolgate_store::bare::{Bare, BareRequester};

use super::{
    Error, Options, REQUEST_EVENT,
    child::{Part, Process},
    echo::EchoCaller,
    figures::Figures,
    http::{Kind, ToolCaller},
    load::{self, Caller, Sample},
    progress::Bar,
    road::{Road, Watched},
    stage::Stage,
    template::Template,
    tenants,
};

/// The fixed rate of the open loop, as a share of what the slower of ours and the floor can carry.
const SHARE: f64 = 0.6;
/// Calls per second that are answered from the cache.
const CACHED_RATE: f64 = 100.0;
/// Connections that make them.
const CACHED_CALLERS: usize = 16;
/// Events that the projector at least has to catch up with.
const BACKLOG: u64 = 30_000;
/// Steps that [`Run::measure`] shows.
pub const STEPS: u64 = 12;

/// What one run works with.
#[derive(Debug)]
pub struct Run<'a> {
    pub options: &'a Options,
    pub stage: &'a mut Stage,
    pub command_api: &'a Process,
    pub figures: &'a mut Figures,
    pub bar: &'a Bar,
    pub ours_first: bool,
}

impl Run<'_> {
    pub async fn measure(mut self) -> Result<(), Error> {
        self.intake().await?;
        self.catch_up().await?;
        self.whole_road().await?;
        self.cached().await
    }

    fn measured(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }

    /// Intake alone: neither worker nor projector runs.
    async fn intake(&mut self) -> Result<(), Error> {
        let handler = self.stage.start(Part::Floor).await?;
        let callers = |address: &str| ToolCaller::many(self.options.connections, address, Kind::Intake, &self.stage.tenants);
        let (mut ours, mut bare) = (callers(&self.command_api.address), callers(&handler.address));
        let (most, most_bare) = if self.ours_first {
            let most = self.most("intake", &mut ours, self.command_api).await;
            (most, self.most("bare handler", &mut bare, &handler).await)
        } else {
            let most_bare = self.most("bare handler", &mut bare, &handler).await;
            (self.most("intake", &mut ours, self.command_api).await, most_bare)
        };
        self.figures.add("intake.calls_per_second", most.sample.rate(), Some(most_bare.sample.rate()));
        self.figures.add("intake.cpu_us_per_call", most.cpu_us_per_call, Some(most_bare.cpu_us_per_call));
        let rate = SHARE * most.sample.rate().min(most_bare.sample.rate());
        self.figures.add("intake.rate", rate, Some(rate));
        let (timed, timed_bare) = if self.ours_first {
            let timed = self.on_schedule("intake", &mut ours, rate).await;
            (timed, self.on_schedule("bare handler", &mut bare, rate).await)
        } else {
            let timed_bare = self.on_schedule("bare handler", &mut bare, rate).await;
            (self.on_schedule("intake", &mut ours, rate).await, timed_bare)
        };
        self.figures.add_percentiles(["intake.p50_ms", "intake.p95_ms", "intake.p99_ms"], &timed, Some(&timed_bare));
        while self.stage.behind().await? < BACKLOG {
            self.most("filling the backlog", &mut ours, self.command_api).await;
        }
        self.stage.stop(handler).await
    }

    /// The projector meets what intake has left it.
    async fn catch_up(&mut self) -> Result<(), Error> {
        self.bar.step("catching up from a backlog");
        let backlog = self.stage.behind().await? as f64;
        let began = Instant::now();
        let projector = self.stage.start(Part::Projector).await?;
        self.stage.caught_up().await?;
        self.figures.add("catch_up.events_per_second", backlog / began.elapsed().as_secs_f64(), None);
        self.figures.add("catch_up.events", backlog, None);
        self.stage.stop(projector).await
    }

    async fn whole_road(&mut self) -> Result<(), Error> {
        let (most, one, watched, floor);
        if self.ours_first {
            (most, one) = self.as_fast_as_it_goes().await?;
            floor = self.bare_round_trip(Some(most.rate()), None).await?;
            watched = self.watched(SHARE * most.rate().min(floor.most.rate())).await?;
        } else {
            let first = self.bare_round_trip(None, None).await?;
            (most, one) = self.as_fast_as_it_goes().await?;
            let rate = SHARE * most.rate().min(first.most.rate());
            watched = self.watched(rate).await?;
            floor = self.bare_round_trip(None, Some((first, rate))).await?;
        }
        self.figures.add("road.rate", floor.rate, Some(floor.rate));
        self.figures.add("road.calls_per_second", most.rate(), Some(floor.most.rate()));
        self.figures.add("road.one_caller_p50_ms", one.percentile(0.5), Some(floor.one.percentile(0.5)));
        self.figures.add("road.one_caller_p99_ms", one.percentile(0.99), Some(floor.one.percentile(0.99)));
        self.figures.add_percentiles(["road.p50_ms", "road.p95_ms", "road.p99_ms"], &watched.calls, Some(&floor.timed));
        watched.add_to(self.figures);
        Ok(())
    }

    /// Ours with every role running: from all connections, and from one caller alone.
    async fn as_fast_as_it_goes(&mut self) -> Result<(Sample, Sample), Error> {
        let roles = self.stage.start_roles().await?;
        let road: Road = self.stage.road(self.command_api, &roles);
        let [worker, projector] = [&roles.worker, &roles.projector].map(Process::cpu_seconds);
        let mut callers = road.callers(self.options.connections);
        let Most { sample, cpu_us_per_call, calls } = self.most("the whole road", &mut callers, self.command_api).await;
        self.figures.add("road.command_api_us_per_call", cpu_us_per_call, None);
        self.figures.add("road.worker_us_per_call", us_per_call(worker, roles.worker.cpu_seconds(), calls), None);
        self.stage.caught_up().await?;
        self.figures.add("road.projector_us_per_call", us_per_call(projector, roles.projector.cpu_seconds(), calls), None);
        let one = self.most("the whole road, one caller", &mut road.callers(1), self.command_api).await;
        self.stage.stop_roles(roles).await?;
        Ok((sample, one.sample))
    }

    async fn watched(&mut self, rate: f64) -> Result<Watched, Error> {
        let roles = self.stage.start_roles().await?;
        let road = self.stage.road(self.command_api, &roles);
        self.bar.step("the whole road at a fixed rate, streams and queries");
        let watched = road.watch(&mut road.callers(self.options.connections), rate, self.measured()).await;
        self.stage.stop_roles(roles).await?;
        Ok(watched)
    }

    /// Every role running; the outcomes are on the disk, and only the tool's own work is spared.
    async fn cached(&mut self) -> Result<(), Error> {
        let roles = self.stage.start_roles().await?;
        let address = &self.command_api.address;
        for first in ToolCaller::many(1, address, Kind::Cached, &self.stage.tenants).iter_mut() {
            for _ in 0..self.stage.tenants.len() {
                // The first of a tenant is what the others are answered with.
                drop(first.call().await);
            }
        }
        let mut callers = ToolCaller::many(CACHED_CALLERS, address, Kind::Cached, &self.stage.tenants);
        let timed = self.on_schedule("calls answered from the cache", &mut callers, CACHED_RATE).await;
        self.figures.add_percentiles(["cached_call_p50", "cached_call_p95", "cached_call_p99"], &timed, None);
        self.stage.stop_roles(roles).await
    }

    /// The floor of the whole road, in one piece or, when ours comes in between, in two.
    async fn bare_round_trip(&mut self, ours: Option<f64>, before: Option<(BareRoundTrip, f64)>) -> Result<BareRoundTrip, Error> {
        let worker = self.stage.start(Part::Echo).await?;
        let requester = BareRequester::open(Bare::new(self.stage.log.clone())).await?;
        let template = Template::load(&self.stage.directory.join(REQUEST_EVENT))?;
        let ids = tenants::ids(self.stage.tenants.len());
        let mut callers = EchoCaller::many(self.options.connections, requester, template, ids, self.stage.clock)?;
        let (most, one, rate) = match before {
            Some((before, rate)) => (before.most, before.one, Some(rate)),
            None => {
                let most = self.most("bare round trip", &mut callers, &worker).await.sample;
                let mut alone = callers.first().cloned().into_iter().collect();
                let one = self.most("bare round trip, one caller", &mut alone, &worker).await.sample;
                let rate = ours.map(|ours| SHARE * ours.min(most.rate()));
                (most, one, rate)
            }
        };
        let timed = match rate {
            Some(rate) => self.on_schedule("bare round trip", &mut callers, rate).await,
            None => Sample::default(),
        };
        self.stage.stop(worker).await?;
        Ok(BareRoundTrip { most, one, timed, rate: rate.unwrap_or_default() })
    }

    /// As fast as it goes, and what that costs `process`.
    async fn most<C: Caller>(&mut self, name: &str, callers: &mut Vec<C>, process: &Process) -> Most {
        self.bar.step(&format!("{name}, as fast as it goes"));
        let before = process.cpu_seconds();
        let sample = load::closed(callers, self.measured()).await;
        self.figures.blame(name, &sample);
        // The warm-up costs as well, and nearly as much a second.
        let calls = sample.rate() * (self.measured() + load::WARM_UP).as_secs_f64();
        Most { cpu_us_per_call: us_per_call(before, process.cpu_seconds(), calls), sample, calls }
    }

    async fn on_schedule<C: Caller>(&mut self, name: &str, callers: &mut Vec<C>, rate: f64) -> Sample {
        self.bar.step(&format!("{name}, at a fixed rate"));
        let sample = load::open(callers, rate, self.measured()).await;
        self.figures.blame(name, &sample);
        sample
    }
}

struct Most {
    sample: Sample,
    cpu_us_per_call: f64,
    /// The warm-up included.
    calls: f64,
}

struct BareRoundTrip {
    most: Sample,
    one: Sample,
    timed: Sample,
    rate: f64,
}

fn us_per_call(before: Option<f64>, after: Option<f64>, calls: f64) -> f64 {
    let spent = after.zip(before).map_or(0.0, |(after, before)| after - before);
    spent * 1e6 / calls.max(1.0)
}
