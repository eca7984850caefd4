//! A private PostgreSQL that listens on the loopback interface only.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::{Instant, sleep};

use super::{
    Error,
    binaries::Program,
    data_dir::DataDir,
    guard::{Guard, Service},
    janitor::Janitor,
    log_tail, port,
    postgres_files::{Files, locate},
    progress::Progress,
    secret::Secret,
    server_tls::ServerTls,
};

pub(crate) const NAME: &str = "PostgreSQL";
/// Held by every process of the server, in the data directory.
pub(crate) const LOCK: &str = "postgres.lock";
/// The database that `toolgate up` uses.
pub const DATABASE: &str = "toolgate";
/// Recovery after a crash can take a while; a server that ends is noticed at once.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How carefully the server keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Commits survive a power cut. Without it they still survive the death of the server process.
    pub durable: bool,
    /// Nobody but the superuser then gets in without TLS. Without it the server speaks none.
    pub tls: Option<ServerTls>,
}

/// A login of the private server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresRole {
    /// Creates roles and databases; never used by toolgate at run time.
    Superuser,
    /// Owns the schema and runs migrations; may create databases.
    Owner,
    /// Reads, under row-level security.
    Reader,
    /// Writes read models, under row-level security.
    Projector,
}

impl PostgresRole {
    /// The name to log in with.
    pub fn login(self) -> &'static str {
        match self {
            Self::Superuser => "postgres",
            Self::Owner => "toolgate_owner",
            Self::Reader => "toolgate_reader",
            Self::Projector => "toolgate_projector",
        }
    }
}

/// A running private PostgreSQL. Dropping it stops the server.
#[derive(Debug)]
pub struct Postgres {
    files: Files,
    program: Program,
    options: PostgresOptions,
    secret: Secret,
    port: u16,
    port_file: PathBuf,
    lock: PathBuf,
    guard: Option<Guard>,
    /// How long the log was when the server became ready, in bytes.
    ready_at: u64,
    janitor: Option<Arc<Janitor>>,
}

impl Postgres {
    /// Finds or downloads a server, creates its files on the first start, starts it on a free port and prepares the
    /// login roles and the database.
    ///
    /// # Errors
    /// One sentence per cause; nothing is left running.
    pub async fn start(data: &DataDir, options: PostgresOptions, progress: &Progress) -> Result<Self, Error> {
        let files = Files::prepare(data, progress)?;
        let program = locate(&files, data, progress).await?;
        let first = !files.data.exists();
        if !first && !data.has_secret() {
            return Err(Error::SecretLost { path: files.data });
        }
        let secret = data.secret()?;
        if first {
            let step = progress.step("Creating the database files");
            let password = secret.derive(PostgresRole::Superuser.login());
            files.initialise(&program, &password, data).await?;
            step.done();
        }
        let step = progress.step(format!("Starting {NAME} {}", super::binaries::show(program.version)));
        let port_file = data.path().join("postgres.port");
        let mut server = Self {
            port: 0,
            lock: data.path().join(LOCK),
            guard: None,
            ready_at: 0,
            janitor: data.janitor(),
            files,
            program,
            options,
            secret,
            port_file,
        };
        server.files.install_tls(server.options.tls.as_ref())?;
        server.start_on_free_port().await?;
        server.prepare().await.map_err(Error::Prepare)?;
        step.done();
        Ok(server)
    }

    /// The URL of the owner of the database: migrations and tests.
    pub fn owner_url(&self) -> SecretString {
        self.url(PostgresRole::Owner, DATABASE)
    }

    /// The URL of the reading login.
    pub fn reader_url(&self) -> SecretString {
        self.url(PostgresRole::Reader, DATABASE)
    }

    /// The URL of the projecting login.
    pub fn projector_url(&self) -> SecretString {
        self.url(PostgresRole::Projector, DATABASE)
    }

    /// The URL of the superuser.
    pub fn superuser_url(&self) -> SecretString {
        self.url(PostgresRole::Superuser, DATABASE)
    }

    /// The URL of any login for any database of this server; the database need not exist yet.
    pub fn url(&self, role: PostgresRole, database: &str) -> SecretString {
        let login = role.login();
        let password = self.secret.derive(login);
        let port = self.port;
        format!("postgres://{login}:{password}@127.0.0.1:{port}/{database}?sslmode=disable").into()
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
        ended.then(|| log_tail::died(NAME, self.files.log.clone(), self.ready_at))
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
    /// As [`Postgres::start`]; the server is then stopped.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await;
        self.launch().await
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
        let log = self.files.log.clone();
        log_tail::rotate(&log);
        let from = log_tail::length(&log);
        let mut guard = Guard::spawn(&self.service()).await?;
        let ready = self.wait_until_ready(&mut guard, from).await;
        if ready.is_ok() {
            self.guard = Some(guard);
            self.ready_at = log_tail::length(&self.files.log);
        } else {
            guard.stop().await;
        }
        ready
    }

    async fn wait_until_ready(&self, guard: &mut Guard, log_from: u64) -> Result<(), Error> {
        let log = &self.files.log;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = PgConnection::connect_with(&self.connect_options()).await;
            if guard.ended() {
                return Err(log_tail::ended(NAME, self.port, log.clone(), log_from));
            }
            match answer {
                Ok(connection) => return connection.close().await.map_err(Error::Prepare),
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("28P01") => {
                    return Err(Error::SecretLost { path: self.files.data.clone() });
                }
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
                Err(_) => {
                    return Err(Error::NotReady { service: NAME, seconds: READY_WITHIN.as_secs(), log: log.clone() });
                }
            }
        }
    }

    /// Creates what is missing; repeating it changes nothing.
    async fn prepare(&self) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.connect_options()).await?;
        // Roles belong in their own database.
        connection.execute("revoke connect, temporary on database postgres from public").await?;
        for role in [PostgresRole::Owner, PostgresRole::Reader, PostgresRole::Projector] {
            let name = role.login();
            let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
            let verb = if exists { "alter" } else { "create" };
            let createdb = if role == PostgresRole::Owner { "createdb" } else { "nocreatedb" };
            // The password is made of hexadecimal digits; DDL takes no parameters.
            let password = self.secret.derive(name);
            let statement = format!(
                "{verb} role {name} login nosuperuser nobypassrls nocreaterole noreplication {createdb} \
                 password '{password}'"
            );
            connection.execute(statement.as_str()).await?;
            // A login may change its own settings, and they would last.
            connection.execute(format!("alter role {name} reset all").as_str()).await?;
        }
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            let owner = PostgresRole::Owner.login();
            let statement = format!("create database {DATABASE} owner {owner}");
            connection.execute(statement.as_str()).await?;
        }
        connection.close().await?;
        let mut connection = PgConnection::connect_with(&self.connect_options().database(DATABASE)).await?;
        sqlx::raw_sql(include_str!("lock_down.sql")).execute(&mut connection).await?;
        connection.close().await
    }

    fn connect_options(&self) -> PgConnectOptions {
        let login = PostgresRole::Superuser.login();
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(login)
            .password(&self.secret.derive(login))
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
            // These statements hold passwords.
            .disable_statement_logging()
    }

    fn service(&self) -> Service {
        let mut args = vec!["-D".into(), self.files.data.clone().into_os_string()];
        let settings = settings(self.port, self.options.durable);
        for setting in settings.into_iter().chain(self.files.tls_settings(self.options.tls.as_ref())) {
            args.extend(["-c".into(), setting.into()]);
        }
        Service {
            name: NAME,
            program: self.program.path.clone(),
            args,
            env: vec![("LC_ALL", "C".to_owned())],
            directory: self.files.home.clone(),
            log: self.files.log.clone(),
            lock: self.lock.clone(),
            run_as: self.files.run_as.clone(),
            // Fast shutdown, then immediate shutdown.
            signals: "INT QUIT KILL",
            patience: Duration::from_secs(15),
            janitor: self.janitor.clone(),
        }
    }
}

/// Sized for a laptop that also runs everything else; reached over TCP only, so that no path can be too long for a socket.
fn settings(port: u16, durable: bool) -> Vec<String> {
    let mut settings: Vec<String> = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        "shared_buffers=64MB",
        "max_wal_size=256MB",
        "wal_level=minimal",
        "max_wal_senders=0",
        "jit=off",
        "password_encryption=scram-sha-256",
        "log_destination=stderr",
        "logging_collector=off",
        "log_checkpoints=off",
        "log_timezone=UTC",
        "timezone=UTC",
        "lc_messages=C",
    ]
    .map(str::to_owned)
    .to_vec();
    settings.push(format!("port={port}"));
    if !durable {
        settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
    }
    settings
}

/// The major version that wrote the data in `directory`, or `None` when there are none.
pub(crate) fn data_version(directory: &Path) -> Option<u32> {
    let text = fs::read_to_string(directory.join("PG_VERSION")).ok()?;
    text.trim().parse().ok()
}
