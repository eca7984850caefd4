//! The processes of a measurement: each role and each floor has its own, so that its memory can be read and it can be absent.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::process::{Child, Command};
use toolgate_store::{Clock, Log, LogOptions, bare::Bare};

use super::{Error, http};
use crate::{dev_issuer::DevIssuer, services::Connections, settings::Settings};

/// How long a process may take to answer its first request, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a process of the bench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    CommandApi,
    QueryApi,
    Worker,
    Projector,
    /// The bare handler.
    Floor,
    /// The bare worker.
    Echo,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandApi => "command-api",
            Self::QueryApi => "query-api",
            Self::Worker => "worker",
            Self::Projector => "projector",
            Self::Floor => "bare handler",
            Self::Echo => "bare worker",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::CommandApi => &["command-api"],
            Self::QueryApi => &["query-api"],
            Self::Worker => &["worker"],
            Self::Projector => &["projector"],
            Self::Floor => &["bench", "floor"],
            Self::Echo => &["bench", "echo"],
        }
    }

    fn serves_http(self) -> bool {
        matches!(self, Self::CommandApi | Self::QueryApi | Self::Floor)
    }
}

/// A running process. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    part: Part,
    child: Child,
    /// Where it listens, if it does.
    pub address: String,
    log: PathBuf,
}

impl Process {
    /// Starts a part and waits until it answers, if it serves HTTP.
    ///
    /// # Errors
    /// [`Error::Child`] with the end of its log.
    pub async fn start(
        part: Part,
        directory: &Path,
        connections: &Connections,
        variables: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let address = free_address()?.to_string();
        let log = directory.join(format!("bench-{}.log", part.name().replace(' ', "-")));
        let file = |source| Error::File { path: log.clone(), source };
        let output = File::options().create(true).append(true).open(&log).map_err(file)?;
        let errors = output.try_clone().map_err(file)?;
        let program = std::env::current_exe().map_err(|source| Error::File { path: "toolgate".into(), source })?;
        let mut command = Command::new(program);
        // Neither this shell's settings nor a toolgate.toml may change what is measured.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOOLGATE_")) {
            command.env_remove(name);
        }
        let child = command
            .args(part.arguments())
            .current_dir(directory)
            .env("NATS_URL", connections.nats.expose_secret())
            .envs(connections.nats_variables())
            .env("DATABASE_URL", connections.owner.expose_secret())
            .env("DATABASE_URL_READER", connections.reader.expose_secret())
            .env("DATABASE_URL_PROJECTOR", connections.projector.expose_secret())
            .env("TOOLGATE_DATA_DIR", directory)
            .env("TOOLGATE_LISTEN", &address)
            // The calls of the intake phase wait in a lane of their own, untouched.
            .env("TOOLGATE_LANES", "search,ingest")
            .env("TOOLGATE_RATE_LIMIT_PER_MINUTE", u32::MAX.to_string())
            .env("TOOLGATE_MAX_OPEN_CALLS", i64::MAX.to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::File { path: "toolgate".into(), source })?;
        let process = Self { part, child, address, log };
        if part.serves_http()
            && let Err(reason) = http::wait_until_answered(&process.address, "/healthz", PATIENCE).await
        {
            return Err(process.failed(&reason));
        }
        Ok(process)
    }

    pub fn part(&self) -> Part {
        self.part
    }

    /// The most memory the process has ever had resident, in bytes; `None` where the system does not tell.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    /// A line of proc_pid_status(5) that is in kB, in bytes.
    fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// The memory the process has resident at the moment, in bytes; `None` where the system does not tell.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The processor time the process has used, in seconds; `None` where the system does not tell.
    pub fn cpu_seconds(&self) -> Option<f64> {
        // Fields 14 and 15, counted behind the name in parentheses, in hundredths of a second: proc(5).
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(ticks as f64 / 100.0)
    }

    /// Asks the process to end, and waits until it has.
    ///
    /// # Errors
    /// [`Error::Child`] when it had ended before, or does not.
    pub async fn stop(mut self) -> Result<(), Error> {
        let Some(pid) = self.child.id().filter(|_| matches!(self.child.try_wait(), Ok(None))) else {
            return Err(self.failed("it ended by itself"));
        };
        // The kill program, because signals other than SIGKILL need unsafe code.
        let asked = Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().await;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        match (asked, ended) {
            (Ok(_), Ok(Ok(status))) if status.success() => Ok(()),
            (Ok(_), Ok(Ok(status))) => Err(self.failed(&format!("it ended with {status}"))),
            _ => Err(self.failed("it does not end")),
        }
    }

    fn failed(&self, reason: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let last = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        Error::Child { name: self.part.name(), reason: reason.to_owned(), log: last }
    }
}

/// What a floor's process works with.
#[derive(Debug)]
pub struct Floor {
    pub directory: PathBuf,
    pub listen: SocketAddr,
    pub issuer: DevIssuer,
    pub bare: Bare,
    pub clock: Clock,
}

impl Floor {
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        let url = settings.nats_url.ok_or_else(|| Error::Bug("a child was started without NATS_URL".to_owned()))?;
        let log = Log::open(url.expose_secret(), &LogOptions::default()).await?;
        Ok(Self {
            issuer: DevIssuer::load(&settings.data_dir)?,
            directory: settings.data_dir,
            listen: settings.listen,
            bare: Bare::new(log),
            clock: Clock::system(),
        })
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr, Error> {
    let failed = |error: std::io::Error| Error::Http(error.to_string());
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_err(failed)
}
