//! Fairness: what a tenant that keeps within its limit notices of another one that floods.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::StatusCode;

use super::{
    Error, Options,
    child::Part,
    figures::Figures,
    http::{Kind, ToolCaller},
    load::{self, Caller},
    progress::Bar,
    report::Report,
    stage::Stage,
    tenants,
};
use crate::services::Progress;

/// Commands per tenant and minute.
const LIMIT: u32 = 6_000;
/// The flood is this many times what the limit lets through.
const TIMES: f64 = 10.0;
/// The quiet tenant's calls per second: half of its limit.
const QUIET_RATE: f64 = LIMIT as f64 / 60.0 / 2.0;
const QUIET_CONNECTIONS: usize = 16;
/// A tenant that has used up its minute gets nothing until the window moves on, then its share. The flood is measured once that flows.
const PATIENCE: u32 = 130;

/// The 95th percentile of a tenant's calls, alone and during another tenant's flood.
pub async fn measure(options: &Options, progress: &Progress) -> Result<Report, Error> {
    let mut stage = Stage::open(options.durable, 2, progress).await?;
    let bar = Bar::new(3 * u64::from(options.runs) + 1);
    bar.step("loading the documents");
    let limit = LIMIT.to_string();
    let command_api = stage.start_with(Part::CommandApi, &[("TOOLGATE_RATE_LIMIT_PER_MINUTE", &limit)]).await?;
    let roles = stage.start_roles().await?;
    tenants::load_documents(&command_api.address, &stage.tenants).await?;
    stage.caught_up().await?;
    let callers = |count, place: usize| {
        let tenant = stage.tenants.iter().skip(place).take(1).cloned().collect();
        ToolCaller::many(count, &command_api.address, Kind::Synchronous, &tenant)
    };
    let answers = Arc::new(Answers::default());
    let flood = callers(options.connections, 0).into_iter().map(|caller| Flood(caller, Arc::clone(&answers)));
    let (mut flood, mut quiet) = (flood.collect::<Vec<_>>(), callers(QUIET_CONNECTIONS, 1));
    let measured = Duration::from_secs(options.seconds);
    let flood_rate = f64::from(LIMIT) / 60.0 * TIMES;
    let mut figures = Figures::default();
    for _ in 0..options.runs {
        bar.step("the quiet tenant alone");
        let alone = load::open(&mut quiet, QUIET_RATE, measured).await;
        bar.step("the noisy tenant uses up its limit, and gets its share");
        for _ in 0..PATIENCE {
            answers.reset();
            figures.blame("the flood", &load::closed(&mut flood, Duration::from_secs(1)).await);
            if answers.show_a_share() {
                break;
            }
        }
        bar.step("the quiet tenant during the flood");
        answers.reset();
        let (beside, flooded) =
            tokio::join!(load::open(&mut quiet, QUIET_RATE, measured), load::open(&mut flood, flood_rate, measured));
        for (part, sample) in [("the quiet tenant", &alone), ("the quiet tenant", &beside), ("the flood", &flooded)] {
            figures.blame(part, sample);
        }
        figures.add("fairness.p50_ms", beside.percentile(0.5), Some(alone.percentile(0.5)));
        figures.add("fairness.p95_ms", beside.percentile(0.95), Some(alone.percentile(0.95)));
        figures.add("fairness.p99_ms", beside.percentile(0.99), Some(alone.percentile(0.99)));
        let seconds = (measured + load::WARM_UP).as_secs_f64();
        figures.add("fairness.flood_per_second", flooded.rate(), None);
        figures.add("fairness.admitted_per_second", answers.admitted.load(Ordering::Relaxed) as f64 / seconds, None);
    }
    drop((flood, quiet));
    stage.stop_roles(roles).await?;
    stage.stop(command_api).await?;
    stage.close().await;
    Ok(Report::new(options, Some(options.durable), 2, figures, Vec::new()))
}

/// What the flood was answered with.
#[derive(Debug, Default)]
struct Answers {
    admitted: AtomicU64,
    refused: AtomicU64,
}

impl Answers {
    /// Of a second: about what the limit lets through, and the rest refused.
    fn show_a_share(&self) -> bool {
        let share = u64::from(LIMIT / 60);
        let admitted = self.admitted.load(Ordering::Relaxed);
        self.refused.load(Ordering::Relaxed) > 0 && (share / 2..=share * 2).contains(&admitted)
    }

    fn reset(&self) {
        self.admitted.store(0, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
    }
}

/// A caller to whom a refusal is as good an answer as any.
struct Flood(ToolCaller, Arc<Answers>);

impl Caller for Flood {
    async fn call(&mut self) -> Result<(), String> {
        let Self(caller, answers) = self;
        match caller.status().await? {
            StatusCode::OK | StatusCode::ACCEPTED => answers.admitted.fetch_add(1, Ordering::Relaxed),
            StatusCode::TOO_MANY_REQUESTS => answers.refused.fetch_add(1, Ordering::Relaxed),
            other => return Err(other.to_string()),
        };
        Ok(())
    }
}
