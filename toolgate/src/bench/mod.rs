//! `toolgate bench`: ours beside the floor, from the same run.
//!
//! The floor is what the same machine does with the same bytes when nothing but the broker is asked for: a bare handler before
//! the log, a bare round trip through it. Whatever disturbs a measurement disturbs both, so the ratio says what a figure alone
//! cannot. Latencies come from an open loop ([`load::open`]).

mod child;
mod echo;
mod fairness;
mod figures;
mod floor;
mod http;
mod load;
mod progress;
mod rebuild;
mod remote;
mod report;
mod road;
mod run;
mod stage;
mod streams;
mod template;
mod tenants;

use std::path::PathBuf;

use hyper::StatusCode;
use tokio_util::sync::CancellationToken;

pub use rebuild::{Rebuilt, measure as measure_rebuild};
pub use report::{Conditions, Report};

use self::{
    child::{Floor, Part},
    figures::Figures,
    progress::Bar,
    run::{Run, STEPS},
    stage::Stage,
};
use crate::{
    dev_issuer, migrations,
    services::{self, Progress},
    settings::Settings,
};

/// Files in which the children of a bench find the events to copy.
const INTAKE_EVENT: &str = "bench-intake.json";
const REQUEST_EVENT: &str = "bench-request.json";
const OUTCOME_EVENT: &str = "bench-outcome.json";

/// What to measure, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the private services write to the disk before they acknowledge.
    pub durable: bool,
    pub runs: u32,
    /// Of each measurement, after a second that is dropped.
    pub seconds: u64,
    pub connections: usize,
    pub tenants: u16,
    /// Whether to measure what one tenant notices of another's flood, and nothing else.
    pub fairness: bool,
    /// Whether to measure event streams, and nothing else.
    pub streams: Option<StreamLoad>,
    /// A system that is running already, instead of one of the bench's own.
    pub running: Option<Running>,
}

/// Clients that follow events.
#[derive(Clone, Copy, Debug)]
pub struct StreamLoad {
    pub clients: usize,
    /// Events that come in while they follow.
    pub events: usize,
}

/// A system that is running already.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its address, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// Tokens to call with; with none they are minted from the development key in `data_dir`.
    pub tokens: Vec<String>,
    pub data_dir: PathBuf,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Services(#[from] services::Error),
    #[error(transparent)]
    Migrations(#[from] migrations::Error),
    #[error(transparent)]
    Issuer(#[from] dev_issuer::Error),
    #[error(transparent)]
    Log(#[from] toolgate_store::LogError),
    #[error(transparent)]
    Load(#[from] toolgate_store::LoadError),
    #[error(transparent)]
    Bare(#[from] toolgate_store::bare::BareError),
    #[error("cannot use the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("an event cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("an event cannot be read: {0}")]
    Decode(#[from] toolgate_events::DecodeError),
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the {name} does not run ({reason}); the end of its log:\n{log}")]
    Child { name: &'static str, reason: String, log: String },
    #[error("{0}")]
    Http(String),
    #[error("a call was answered with {status}: {body}")]
    Answer { status: StatusCode, body: String },
    #[error("--url must be http://HOST:PORT; measure behind the proxy that adds TLS")]
    Url,
    #[error(transparent)]
    Rebuild(#[from] toolgate_projector::rebuild::Error),
    #[error("projections came out different: {}", .0.join(", "))]
    Different(Vec<String>),
    #[error("a token cannot be used")]
    Token,
    #[error("the projection did not catch up")]
    NeverCaughtUp,
    #[error("{0} of the targets were missed")]
    Missed(usize),
    #[error("{0} requests failed")]
    Failed(u64),
    #[error("a mistake in the bench itself: {0}")]
    Bug(String),
}

/// Measures.
///
/// # Errors
/// When a part does not run or a preparation fails; a request that fails while measuring is counted instead.
pub async fn measure(options: &Options, progress: &Progress) -> Result<Report, Error> {
    if let Some(running) = &options.running {
        return remote::measure(options, running).await;
    }
    if options.fairness {
        return fairness::measure(options, progress).await;
    }
    if let Some(load) = options.streams {
        return streams::measure(options, load, progress).await;
    }
    let mut stage = Stage::open(options.durable, options.tenants, progress).await?;
    let bar = Bar::new(STEPS * u64::from(options.runs) + 1);
    bar.step("loading the documents");
    let command_api = stage.start(Part::CommandApi).await?;
    stage.prepare(&command_api).await?;
    let mut figures = Figures::default();
    for number in 0..options.runs {
        let ours_first = number % 2 == 0;
        let run = Run { options, stage: &mut stage, command_api: &command_api, figures: &mut figures, bar: &bar, ours_first };
        run.measure().await?;
        for (part, id) in [
            (Part::Worker, "memory.worker_mb"),
            (Part::Projector, "memory.projector_mb"),
            (Part::QueryApi, "memory.query_api_mb"),
        ] {
            if let Some(peak) = stage.take_peak(part) {
                figures.add(id, peak, None);
            }
        }
    }
    stage.stop(command_api).await?;
    if let Some(peak) = stage.take_peak(Part::CommandApi) {
        figures.add("memory.command_api_mb", peak, None);
    }
    stage.close().await;
    Ok(Report::new(options, Some(options.durable), usize::from(options.tenants), figures, Vec::new()))
}

/// Runs the bare handler that intake is measured against, as a child of the bench.
///
/// # Errors
/// When it cannot listen, or reach the log.
pub async fn bare_handler(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    floor::serve(Floor::open(settings).await?, shutdown).await
}

/// Runs the bare worker that the whole road is measured against, as a child of the bench.
///
/// # Errors
/// When it cannot reach the log.
pub async fn bare_worker(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    echo::serve(Floor::open(settings).await?, shutdown).await
}
