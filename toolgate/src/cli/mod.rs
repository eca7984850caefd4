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

mod audit;
mod bench;
mod command_api;
mod keys;
mod knowledge;
mod log;
mod mcp;
mod migrate;
mod parked;
mod policy;
mod projector;
mod query_api;
mod replay;
mod schema;
mod shutdown;
mod streams;
mod tenant;
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
    Tenant(tenant::Tenant),
    Keys(keys::Keys),
    Streams(streams::Streams),
    Audit(audit::Audit),
    Bench(bench::Bench),
    Knowledge(knowledge::Knowledge),
    Mcp(mcp::Mcp),
    Parked(parked::Parked),
    Log(log::Log),
    Schema(schema::Schema),
    Policy(policy::PolicyCommand),
    Replay(replay::Replay),
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
    Log(#[from] toolgate_store::LogError),
    #[error(transparent)]
    Roles(#[from] roles::Error),
    #[error(transparent)]
    Bench(#[from] crate::bench::Error),
    #[error(transparent)]
    Revocations(#[from] toolgate_store::RevocationError),
    #[error(transparent)]
    Streaming(#[from] toolgate_store::StreamingError),
    #[error(transparent)]
    Definitions(#[from] toolgate_store::DefinitionsError),
    #[error("{0}")]
    Mcp(String),
    #[error("cannot use the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Retry(#[from] toolgate_projector::parked::Error),
    #[error(transparent)]
    Recover(#[from] toolgate_projector::RecoverError),
    #[error(transparent)]
    Restore(#[from] toolgate_store::RestoreError),
    #[error("the log has {partitions} partitions, so there is no partition {partition}")]
    NoSuchPartition { partition: u16, partitions: u16 },
    #[error("cannot read what workers set aside: {0}")]
    Parked(String),
    #[error("events that are still parked: {0}; `toolgate parked list` says why")]
    StillParked(u64),
    #[error("cannot read the token: {0}")]
    Token(String),
    #[error("port {port} is in use by another process; choose another with --port")]
    PortInUse { port: u16 },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    #[error("cannot write {folder}: {source}")]
    Folder { folder: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Archive(#[from] toolgate_projector::ArchiveError),
    #[error(transparent)]
    Loader(#[from] crate::loader::Error),
    #[error("cannot describe the interface: {0}")]
    Describe(#[from] serde_json::Error),
    #[error("{0} differs from the code; run `cargo run -- schema` and commit what it writes")]
    Drift(std::path::PathBuf),
    #[error(
        "a published contract is broken:\n  {}\nTake the change back, or raise the contract's version in events/src/tools/ \
         (docs/adr/0007-contract-versions.md)",
        .0.join("\n  ")
    )]
    Contracts(Vec<String>),
    #[error(transparent)]
    Policy(#[from] toolgate_security::PolicyFileError),
    #[error("the policy does not allow it")]
    Denied,
    #[error("calls that would be decided differently: {0}")]
    DecidesDifferently(u64),
    #[error(transparent)]
    Keys(#[from] toolgate_store::KeyError),
    #[error("{0}")]
    Erasure(String),
    #[error("cannot read the log: {0}")]
    Reading(#[from] toolgate_store::ConsumeError),
    #[error("{0}")]
    NotProved(String),
    /// Exit code 2: what was given cannot be used.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Query(#[from] toolgate_query_api::Error),
    #[error("audit checkpoints that were not written: {0}")]
    NotWritten(usize),
    #[error(transparent)]
    Rebuild(#[from] toolgate_projector::rebuild::Error),
    #[error(transparent)]
    History(#[from] toolgate_projector::history::Error),
    #[error("live and rebuilt projections differ in {}", .0.join(", "))]
    ProjectionsDiffer(Vec<String>),
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
            if matches!(error, Error::Usage(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
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
        Command::Token(token) => token.run().await,
        Command::Tenant(tenant) => tenant.run().await,
        Command::Keys(keys) => keys.run().await,
        Command::Streams(streams) => streams.run().await,
        Command::Audit(audit) => audit.run().await,
        Command::Bench(bench) => bench.run().await,
        Command::Knowledge(knowledge) => knowledge.run().await,
        Command::Mcp(mcp) => mcp.run().await,
        Command::Parked(parked) => parked.run().await,
        Command::Log(log) => log.run().await,
        Command::Schema(schema) => schema.run(),
        Command::Policy(policy) => policy.run().await,
        Command::Replay(replay) => replay.run().await,
    }
}

impl Common {
    /// The settings with this subcommand's own flags on top.
    fn settings(&self, profile: Profile, mut flags: Flags) -> Result<Settings, Error> {
        flags.extend(self.data_dir.clone().map(|directory| ("data_dir", directory)));
        Ok(Settings::load(profile, flags)?)
    }

    /// The entries of what is revoked, at the NATS server of the settings or of the toolgate that runs in the data directory.
    async fn revocations(&self) -> Result<toolgate_store::RevocationLog, Error> {
        let settings = self.settings(Profile::Server, vec![])?;
        let connections = services::Connections::for_role(&settings, toolgate_store::User::Operator, None)?;
        Ok(toolgate_store::RevocationLog::connect(connections.operator()).await?)
    }

    /// What is chosen for event streams, at the same NATS server.
    async fn streaming(&self) -> Result<toolgate_store::Streaming, Error> {
        let settings = self.settings(Profile::Server, vec![])?;
        let connections = services::Connections::for_role(&settings, toolgate_store::User::Operator, None)?;
        Ok(toolgate_store::Streaming::connect(connections.operator()).await?)
    }

    /// What is known of the tools of MCP servers, at the same NATS server.
    async fn definitions(&self) -> Result<toolgate_store::Definitions, Error> {
        let settings = self.settings(Profile::Server, vec![])?;
        let connections = services::Connections::for_role(&settings, toolgate_store::User::Operator, None)?;
        Ok(toolgate_store::Definitions::connect(connections.operator()).await?)
    }

    /// Runs one role until Ctrl-C or SIGTERM.
    async fn run_role(&self, role: roles::Role, flags: Flags) -> Result<(), Error> {
        let settings = self.settings(Profile::Server, flags)?;
        log(&settings, "info");
        let connections = services::Connections::for_role(&settings, role.user(), role.login())?;
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
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    // It logs whole messages of MCP servers, unless it is kept from it.
    if !std::env::var(EnvFilter::DEFAULT_ENV).is_ok_and(|chosen| chosen.contains("rmcp"))
        && let Ok(silence) = "rmcp=off".parse()
    {
        filter = filter.add_directive(silence);
    }
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
        let shows_example = |path: &str, sub: &clap::Command| {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("toolgate {path}")), "{path}");
        };
        for sub in command.get_subcommands() {
            shows_example(sub.get_name(), sub);
            for nested in sub.get_subcommands().filter(|nested| !nested.is_hide_set()) {
                shows_example(&format!("{} {}", sub.get_name(), nested.get_name()), nested);
            }
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for arguments in [
            &["toolgate", "fly"][..],
            &["toolgate", "up", "--port", "0"],
            &["toolgate", "token", "--tenant", "nobody", "--role", "agent"],
            &["toolgate", "token", "--tenant", "demo"],
            &["toolgate", "token", "--role", "agent"],
            &["toolgate", "token", "revoke"],
            &["toolgate", "token", "revoke", "--jti", ""],
            &["toolgate", "token", "revoke", "--jti", "a", "--token-file", "-"],
            &["toolgate", "token", "--tenant", "demo", "revoke", "--jti", "a"],
            &["toolgate", "tenant"],
            &["toolgate", "tenant", "suspend"],
            &["toolgate", "tenant", "suspend", "--tenant", "nobody"],
            &["toolgate", "log"],
            &["toolgate", "log", "restore"],
            &["toolgate", "log", "restore", "--partition", "x"],
            &["toolgate", "parked"],
            &["toolgate", "parked", "retry", "--position", "1"],
            &["toolgate", "parked", "retry", "--tenant", "demo", "--position", "0"],
            &["toolgate", "streams"],
            &["toolgate", "streams", "safe-mode"],
            &["toolgate", "streams", "safe-mode", "perhaps"],
            &["toolgate", "mcp"],
            &["toolgate", "mcp", "accept"],
            &["toolgate", "mcp", "accept", "A"],
            &["toolgate", "mcp", "accept", "a", "--hash", "01234567"],
            &["toolgate", "mcp", "accept", "a", "t", "--hash", "x"],
            &["toolgate", "token", "--tenant", "demo", "--role", "agent", "--claim", "exp"],
            &["toolgate", "audit"],
            &["toolgate", "audit", "verify"],
            &["toolgate", "audit", "verify", "f", "--from", "0"],
            &["toolgate", "audit", "verify", "f", "--checkpoints", "c"],
            &["toolgate", "audit", "verify", "f", "--public-key", "k"],
            &["toolgate", "audit", "export"],
            &["toolgate", "audit", "checkpoint"],
            &["toolgate", "audit", "checkpoint", "--all", "--tenant", "demo"],
            &["toolgate", "policy", "check"],
            &["toolgate", "policy", "check", "f", "--role", "agent"],
            &["toolgate", "policy", "check", "f", "--permission", "tool.*.*:invoke"],
            &["toolgate", "policy", "check", "f", "--permission", "a:b", "--tenant", "acme"],
            &["toolgate", "policy", "test", "f"],
            &["toolgate", "policy", "test", "f", "--since", "yesterday"],
            &["toolgate", "replay", "--from", "memory"],
            &["toolgate", "replay", "--check", "--switch"],
            &["toolgate", "replay", "--repair"],
            &["toolgate", "replay", "--allow-parked"],
            &["toolgate", "replay", "--switch", "--projection", "task"],
            &["toolgate", "replay", "--call", "00000000-0000-0000-0000-000000000001"],
            &["toolgate", "replay", "--tenant", "demo", "--check"],
            &["toolgate", "replay", "--discard", "--fresh"],
            &["toolgate", "replay", "--batch", "0"],
            &["toolgate", "replay", "--batch", "50001"],
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            assert_ne!(error.kind(), ErrorKind::DisplayHelp);
        }
    }
}
