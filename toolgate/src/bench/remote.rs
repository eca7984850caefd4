//! A system that is running already: only what can be measured through its front door.

use std::{sync::Arc, time::Duration};

use toolgate_store::Clock;

use super::{
    Error, Options, Running,
    figures::Figures,
    load,
    progress::Bar,
    report::Report,
    road::Road,
    tenants::{self, Tenant},
};
use crate::dev_issuer::DevIssuer;

const STEPS: u64 = 3;
/// The fixed rate of the open loop, as a share of what the system can carry.
const SHARE: f64 = 0.6;

const SKIPPED: [&str; 3] = [
    "intake alone and catching up, because the workers and the projector of a running system are not the bench's to stop",
    "the floors, because they would write to the system's log",
    "memory, because the processes are not the bench's",
];

pub async fn measure(options: &Options, running: &Running) -> Result<Report, Error> {
    let address = running.url.strip_prefix("http://").ok_or(Error::Url)?.trim_end_matches('/');
    if address.contains('/') {
        return Err(Error::Url);
    }
    let tenants = tenants_of(options, running)?;
    let road = Road { commands: address.to_owned(), queries: address.to_owned(), tenants };
    let measured = Duration::from_secs(options.seconds);
    let bar = Bar::new(STEPS * u64::from(options.runs) + 1);
    bar.step("loading the documents");
    tenants::load_documents(address, &road.tenants).await?;
    let mut figures = Figures::default();
    for _ in 0..options.runs {
        let mut callers = road.callers(options.connections);
        bar.step("the whole road, as fast as it goes");
        let most = load::closed(&mut callers, measured).await;
        figures.blame("the whole road", &most);
        figures.add("road.calls_per_second", most.rate(), None);
        bar.step("the whole road, one caller");
        let one = load::closed(&mut road.callers(1), measured).await;
        figures.blame("the whole road", &one);
        figures.add("road.one_caller_p50_ms", one.percentile(0.5), None);
        figures.add("road.one_caller_p99_ms", one.percentile(0.99), None);
        bar.step("the whole road at a fixed rate, streams and queries");
        let rate = SHARE * most.rate();
        let watched = road.watch(&mut callers, rate, measured).await;
        figures.add("road.rate", rate, None);
        figures.add_percentiles(["road.p50_ms", "road.p95_ms", "road.p99_ms"], &watched.calls, None);
        watched.add_to(&mut figures);
    }
    Ok(Report::new(options, None, road.tenants.len(), figures, SKIPPED.to_vec()))
}

fn tenants_of(options: &Options, running: &Running) -> Result<Arc<[Tenant]>, Error> {
    let clock = Clock::system();
    if running.tokens.is_empty() {
        return tenants::mint(&DevIssuer::load(&running.data_dir)?, options.tenants, clock);
    }
    running.tokens.iter().map(|token| Tenant::with_token(token, clock)).collect()
}
