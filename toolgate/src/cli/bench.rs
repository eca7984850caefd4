//! `toolgate bench`.

use std::io::Write;

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use super::{Common, Error, shutdown};
use crate::{
    bench::{self, Options, Running, StreamLoad},
    services::Progress,
    settings::Profile,
};

/// Measure this machine: toolgate beside what the bare log does, from the same run
///
/// Starts a private system of its own, unless --url names one that is running.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  cargo run --release -- bench --runs 5\n  toolgate bench --relaxed --json"
)]
pub(super) struct Bench {
    #[command(subcommand)]
    child: Option<Child>,
    /// How often to measure; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Seconds of each measurement, after one that is dropped
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections that call at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Tenants that call in turn
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    tenants: u16,
    /// Accepted calls are on the disk before they are answered; this is the default
    #[arg(long, conflicts_with = "relaxed")]
    durable: bool,
    /// Accepted calls are written to the disk a little later
    #[arg(long)]
    relaxed: bool,
    /// Measure what one tenant notices of another's flood, and nothing else
    #[arg(long, conflicts_with = "url")]
    fairness: bool,
    /// Measure so many event streams, and nothing else
    #[arg(long, value_name = "N", conflicts_with_all = ["url", "fairness"], value_parser = clap::value_parser!(u16).range(1..=5000))]
    streams: Option<u16>,
    /// Events that come in while the streams are followed
    #[arg(long, value_name = "N", requires = "streams", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: u32,
    /// Measure how fast projections are made anew of this many events, and nothing else
    #[arg(long, value_name = "EVENTS", conflicts_with_all = ["url", "fairness", "streams", "json"], value_parser = clap::value_parser!(u64).range(1..))]
    rebuild: Option<u64>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Fail when a target is missed or a request fails
    #[arg(long)]
    check: bool,
    /// Measure a system that is running already, such as http://127.0.0.1:8080
    #[arg(long, conflicts_with_all = ["durable", "relaxed"])]
    url: Option<String>,
    /// Call the running system with this token; may be repeated [default: tokens of the development key]
    #[arg(long, requires = "url")]
    token: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// The processes that the bench starts besides the roles.
#[derive(Debug, Subcommand)]
enum Child {
    #[command(hide = true)]
    Floor,
    #[command(hide = true)]
    Echo,
}

impl Bench {
    pub async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        super::log(&settings, "warn");
        let shutdown = CancellationToken::new();
        shutdown::on_signal(shutdown.clone())?;
        if let Some(child) = self.child {
            return Ok(match child {
                Child::Floor => bench::bare_handler(settings, shutdown).await,
                Child::Echo => bench::bare_worker(settings, shutdown).await,
            }?);
        }
        if cfg!(debug_assertions) {
            eprintln!("This is a debug build: the figures will mean nothing. Use cargo run --release -- bench.");
        }
        let running = self.url.map(|url| Running { url, tokens: self.token, data_dir: settings.data_dir });
        let events = usize::try_from(self.events).unwrap_or(usize::MAX);
        let streams = self.streams.map(|clients| StreamLoad { clients: clients.into(), events });
        let options = Options {
            durable: !self.relaxed,
            runs: self.runs,
            seconds: self.seconds,
            connections: usize::from(self.connections),
            tenants: self.tenants,
            fairness: self.fairness,
            streams,
            running,
        };
        if let Some(events) = self.rebuild {
            let measured = shutdown.run_until_cancelled(bench::measure_rebuild(&options, events, &Progress::stderr())).await;
            let Some(measured) = measured else { return Ok(()) };
            let rebuilt = measured?;
            writeln!(std::io::stdout(), "{rebuilt}").map_err(Error::Output)?;
            let different = rebuilt.different().to_vec();
            return if different.is_empty() { Ok(()) } else { Err(bench::Error::Different(different).into()) };
        }
        // What was started ends with the measurement, wherever it is interrupted.
        let measured = shutdown.run_until_cancelled(bench::measure(&options, &Progress::stderr())).await;
        let Some(measured) = measured else { return Ok(()) };
        let report = measured?;
        let text =
            if self.json { serde_json::to_string_pretty(&report).map_err(bench::Error::from)? } else { report.to_string() };
        writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(Error::Output)?;
        match (self.check, report.missed(), report.failed_requests) {
            (false, ..) | (true, 0, 0) => Ok(()),
            (true, 0, failed) => Err(bench::Error::Failed(failed).into()),
            (true, missed, _) => Err(bench::Error::Missed(missed).into()),
        }
    }
}
