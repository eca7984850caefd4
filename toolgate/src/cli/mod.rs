//! The command line.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    dev_issuer, migrations, roles,
    secrets::{self, Stderr},
    services,
    settings::{self, Flags, LogFormat, Profile, Settings},
};

mod bench;
mod command_api;
mod knowledge;
mod migrate;
mod projector;
mod query_api;
mod schema;
mod shutdown;
mod token;
mod up;
mod welcome;
mod worker;

/// A multi-tenant gateway through which AI agents call tools.
#[derive(Debug, Parser)]
#[command(name = "toolgate", version, args_conflicts_with_subcommands = true, after_help = up::EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: up::Up,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    CommandApi(command_api::CommandApi),
    QueryApi(query_api::QueryApi),
    Worker(worker::Worker),
    Projector(projector::Projector),
    Migrate(migrate::Migrate),
    Token(token::Token),
    Bench(bench::Bench),
    Knowledge(knowledge::Knowledge),
    Schema(schema::Schema),
}

/// Flags that every subcommand takes.
#[derive(Debug, Default, Args)]
struct Common {
    /// Where `up` keeps its services and the development key [default: .toolgate]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// What a subcommand can fail with; shown as one sentence.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error(transparent)]
    Services(#[from] services::Error),
    #[error(transparent)]
    Migrate(#[from] migrations::Error),
    #[error(transparent)]
    Issuer(#[from] dev_issuer::Error),
    #[error(transparent)]
    Roles(#[from] roles::Error),
    #[error(transparent)]
    Bench(#[from] crate::bench::Error),
    #[error("port {port} is in use by another process; choose another with --port")]
    PortInUse { port: u16 },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    #[error("cannot read {folder}: {source}")]
    Folder { folder: std::path::PathBuf, source: std::io::Error },
    #[error("toolgate does not answer: {0}")]
    Http(#[source] reqwest::Error),
    #[error("{name} was refused: {body}")]
    Answer { name: String, body: String },
    #[error("cannot describe the interface: {0}")]
    Describe(#[from] serde_json::Error),
    #[error("{0} differs from the code; run `cargo run -- schema` and commit what it writes")]
    Drift(std::path::PathBuf),
    #[error("cannot write to the standard output: {0}")]
    Output(#[source] std::io::Error),
}

/// Parses the command line, runs it, and says how it went: 0 done, 1 failed, 2 not understood.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Two libraries would otherwise each choose a provider, or none; the first choice in the process wins.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Start);
    let command = cli.command.unwrap_or(Command::Up(cli.up));
    match runtime.and_then(|runtime| runtime.block_on(dispatch(command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The words of a library may hold the URL that it was given.
            eprintln!("toolgate: {}", Stderr::redactor().redact(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> Result<(), Error> {
    match command {
        Command::Up(up) => up.run().await,
        Command::CommandApi(command_api) => command_api.run().await,
        Command::QueryApi(query_api) => query_api.run().await,
        Command::Worker(worker) => worker.run().await,
        Command::Projector(projector) => projector.run().await,
        Command::Migrate(migrate) => migrate.run().await,
        Command::Token(token) => token.run(),
        Command::Bench(bench) => bench.run().await,
        Command::Knowledge(knowledge) => knowledge.run().await,
        Command::Schema(schema) => schema.run(),
    }
}

impl Common {
    /// The settings with this subcommand's own flags on top.
    fn settings(&self, profile: Profile, mut flags: Flags) -> Result<Settings, Error> {
        flags.extend(self.data_dir.clone().map(|directory| ("data_dir", directory)));
        Ok(Settings::load(profile, flags)?)
    }

    /// Runs one role until Ctrl-C or SIGTERM.
    async fn run_role(&self, role: roles::Role, flags: Flags) -> Result<(), Error> {
        let settings = self.settings(Profile::Server, flags)?;
        log(&settings, "info");
        let connections = services::Connections::for_role(&settings, role.login())?;
        secrets::learn_connections(Stderr::redactor(), &connections);
        let context = roles::Context { settings, connections };
        let shutdown = CancellationToken::new();
        shutdown::on_signal(shutdown.clone())?;
        Ok(roles::run_one(role, &context, shutdown).await?)
    }
}

/// Sends log lines to stderr; `RUST_LOG` chooses which, else `filter` does.
fn log(settings: &Settings, filter: &str) {
    secrets::learn_settings(Stderr::redactor(), settings);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    // It fails only when a subscriber is installed already, and then that one serves.
    drop(match settings.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    });
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_is_up() {
        let cli = Cli::try_parse_from(["toolgate", "--port", "9000", "--no-demo"]).unwrap();
        assert!(cli.command.is_none());
        assert!(Cli::try_parse_from(["toolgate", "up", "--port", "9000"]).is_ok());
    }

    #[test]
    fn every_subcommand_shows_an_example() {
        let command = Cli::command();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            let call = format!("toolgate {}", sub.get_name());
            assert!(help.contains(&call), "{}", sub.get_name());
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for arguments in [
            &["toolgate", "fly"][..],
            &["toolgate", "up", "--port", "0"],
            &["toolgate", "token", "--tenant", "nobody", "--role", "agent"],
            &["toolgate", "token", "--tenant", "demo"],
            &["toolgate", "token", "--tenant", "demo", "--role", "agent", "--claim", "exp"],
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            assert_ne!(error.kind(), ErrorKind::DisplayHelp);
        }
    }
}
