//! Every setting of toolgate, read once at start-up.
//!
//! Flags win over environment variables, those over `toolgate.toml` in the current directory, and that over the defaults.
//! The key `lane_concurrency` is `TOOLGATE_LANE_CONCURRENCY` in the environment. Connection URLs carry passwords and have
//! the customary names instead: `DATABASE_URL`, `DATABASE_URL_READER`, `DATABASE_URL_PROJECTOR` and `NATS_URL`.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::SocketAddr,
    path::PathBuf,
};

use config::{Config, Environment, File, FileFormat, Source};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use toolgate_security::SharedSecret;
use toolgate_store::{TlsFiles, User};

mod check;
pub mod mcp;
#[cfg(test)]
mod tests;

const FILE: &str = "toolgate.toml";
const PREFIX: &str = "TOOLGATE_";

/// Keys that the environment names with the prefix.
const KEYS: [&str; 45] = [
    "listen",
    "admin_addr",
    "data_dir",
    "partitions",
    "body_limit_bytes",
    "durable",
    "jwks_file",
    "jwks_url",
    "issuer",
    "audience",
    "policy_file",
    "lanes",
    "lane_concurrency",
    "ack_wait_ms",
    "cursor_secret",
    "max_open_calls",
    "rate_limit_per_minute",
    "projector_batch",
    "log_format",
    "log_max_bytes",
    "jwks_refresh_seconds",
    "tool_rate_limits",
    "max_concurrent_requests",
    "max_connections",
    "header_timeout_ms",
    "body_timeout_ms",
    "egress_allow",
    "egress_private_networks",
    "nats_ca_file",
    "nats_cert_file",
    "nats_key_file",
    "task_webhook_url",
    "task_webhook_secret",
    "task_webhook_first_pause_ms",
    "mcp",
    "mcp_pin_first",
    "mcp_refresh_seconds",
    "basehub_url",
    "basehub_token",
    "basehub_webhook_secret",
    "vector_max_components",
    "lane_concurrency_by_lane",
    "result_cache_bytes",
    "circuit_open_ms",
    "master_key_file",
];

/// Keys that the environment names without the prefix.
const URLS: [(&str, &str); 8] = [
    ("database_url", "DATABASE_URL"),
    ("database_url_reader", "DATABASE_URL_READER"),
    ("database_url_projector", "DATABASE_URL_PROJECTOR"),
    ("nats_url", "NATS_URL"),
    ("nats_url_command_api", "NATS_URL_COMMAND_API"),
    ("nats_url_query_api", "NATS_URL_QUERY_API"),
    ("nats_url_worker", "NATS_URL_WORKER"),
    ("nats_url_projector", "NATS_URL_PROJECTOR"),
];

/// Variables with the prefix that are no settings: `up` writes the first for other programs, the tests read the second.
const OTHER_VARIABLES: [&str; 3] = ["TOOLGATE_URL", "TOOLGATE_TEST_INFRA", "TOOLGATE_CRASH_AT"];

/// The settings. Field names are the keys of `toolgate.toml`.
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    /// Where the HTTP API listens. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Where metrics and documentation listen instead, when set.
    pub admin_addr: Option<SocketAddr>,
    /// Where `up` keeps the private services and the development key. Default `.toolgate`.
    pub data_dir: PathBuf,
    /// Partition streams of the event log, 1 to 64; fixed once the log exists. Default 16.
    pub partitions: u16,
    /// The largest request body, in bytes: 1 KiB to 640 KiB, so that an event always fits a NATS message, sealed. Default 256 KiB.
    pub body_limit_bytes: usize,
    /// Whether the private nats-server writes to the disk before it acknowledges. Default true.
    pub durable: bool,
    /// A JWK Set (RFC 7517) with the symmetric keys that the keys of content are wrapped under: the first wraps, all unwrap. Default:
    /// `master-keys.json` in the data directory, which `up` makes.
    pub master_key_file: Option<PathBuf>,
    /// A file with the JWKS that tokens are checked against; at most one of this and `jwks_url`.
    pub jwks_file: Option<PathBuf>,
    /// The http(s) address of that JWKS.
    pub jwks_url: Option<String>,
    /// How often the JWKS is fetched again, in seconds, 1 to 86,400. Default 300.
    pub jwks_refresh_seconds: u64,
    /// The `iss` that tokens must have. Default `toolgate-dev`.
    pub issuer: String,
    /// The `aud` that tokens must contain. Default `toolgate`.
    pub audience: String,
    /// The roles and their permissions; the built-in policy when absent.
    pub policy_file: Option<PathBuf>,
    /// The lanes a worker serves; every lane when empty. In the environment separated by commas.
    #[serde(deserialize_with = "list")]
    pub lanes: Vec<String>,
    /// Calls that run at once in each lane, 1 to 10,000. Default 64.
    pub lane_concurrency: usize,
    /// The same for single lanes. In the environment as `render=2,http=16`. Default for the lane `render`: the number of
    /// processors.
    #[serde(deserialize_with = "limits")]
    pub lane_concurrency_by_lane: BTreeMap<String, u32>,
    /// Results that a worker keeps to answer later calls with, in bytes, up to 64 GiB; none with 0. Default 64 MiB.
    pub result_cache_bytes: u64,
    /// How long a circuit breaker stays open at first, in milliseconds, 100 to 600,000; each probe that fails doubles it, up to
    /// twelve times as long. Default 5,000.
    pub circuit_open_ms: u64,
    /// How long a call may go without a sign of life from its worker before another one gets it, in milliseconds, at least 300.
    /// Default 30,000.
    pub ack_wait_ms: u64,
    /// What page cursors are sealed with; the same on every replica. Default: a new one at every start.
    pub cursor_secret: Option<SecretString>,
    /// Calls of one tenant that may be open at once, at least 1. Default 10,000.
    pub max_open_calls: u64,
    /// Commands per tenant and sliding minute, at least 1. Default 6,000; under `up` 600,000.
    pub rate_limit_per_minute: u32,
    /// Calls of one tool per tenant and sliding minute, on top of the limit for all tools. In the environment as
    /// `task.create=60,document.render=10`.
    #[serde(deserialize_with = "limits")]
    pub tool_rate_limits: BTreeMap<String, u32>,
    /// Requests worked on at once, 1 to 100,000; more are answered with 503. Default 2,048.
    pub max_concurrent_requests: usize,
    /// Connections open at once, 1 to 100,000; more wait to be accepted. Default 20,000.
    pub max_connections: usize,
    /// How long a client may take over the head of a request, and how long a connection may stay idle, in milliseconds, at least
    /// 100. Default 10,000.
    pub header_timeout_ms: u64,
    /// How long a client may take over the body of a request, in milliseconds, at least 100. Default 30,000.
    pub body_timeout_ms: u64,
    /// Where tools may send requests: `host`, `*.host`, either with `:port`; nowhere when empty. Without a port the scheme's own
    /// is meant; `https://` or `http://` in front excludes the other. In the environment separated by commas.
    #[serde(deserialize_with = "list")]
    pub egress_allow: Vec<String>,
    /// Private networks (CIDR) that an allowed host may be in. In the environment separated by commas.
    #[serde(deserialize_with = "list")]
    pub egress_private_networks: Vec<String>,
    /// Upstream MCP servers by name, at most 32. In the environment as JSON: `{"<server>": {"url": "https://…"}}`.
    #[serde(deserialize_with = "mcp::servers")]
    pub mcp: BTreeMap<String, mcp::McpServerSettings>,
    /// Whether a tool that an MCP server offers for the first time can be called at once, or waits until an operator accepts it.
    /// Default true.
    pub mcp_pin_first: bool,
    /// How often an MCP server is asked for its tools, in seconds, 1 to 86,400. Default 60.
    pub mcp_refresh_seconds: u64,
    /// Events per projection transaction, 1 to 1,000. Default 1,000.
    pub projector_batch: usize,
    /// How log lines look. Default `text`.
    pub log_format: LogFormat,
    /// The size at which the event log refuses to grow, in bytes over all partitions; unlimited when absent.
    pub log_max_bytes: Option<u64>,
    /// The database, as the owner of the schema.
    pub database_url: Option<SecretString>,
    /// The database as the reading role; derived from `database_url` when absent.
    pub database_url_reader: Option<SecretString>,
    /// The database as the projecting role; derived from `database_url` when absent.
    pub database_url_projector: Option<SecretString>,
    /// The NATS server.
    pub nats_url: Option<SecretString>,
    /// The NATS server as each role; `nats_url` when absent.
    pub nats_url_command_api: Option<SecretString>,
    pub nats_url_query_api: Option<SecretString>,
    pub nats_url_worker: Option<SecretString>,
    pub nats_url_projector: Option<SecretString>,
    /// Certificates (PEM) of the authorities that may sign the NATS server's; the system's when absent.
    pub nats_ca_file: Option<PathBuf>,
    /// The certificate (PEM) toolgate shows to the NATS server, and its key; both or none.
    pub nats_cert_file: Option<PathBuf>,
    pub nats_key_file: Option<PathBuf>,
    /// Where workers tell outcomes of `task.create` and `task.update`; nowhere when absent. `egress_allow` must name it.
    pub task_webhook_url: Option<String>,
    /// What those messages are signed with, `whsec_` and 24 to 64 bytes in base64; both this and the URL or none.
    pub task_webhook_secret: Option<SecretString>,
    /// Before a message that was not taken is sent again, in milliseconds, 10 to 3,600,000; it doubles up to an hour. Default 5,000.
    pub task_webhook_first_pause_ms: u64,
    /// The http(s) address of BaseHub's GraphQL API, whose host `egress_allow` must name too; without it `basehub.query` fails.
    pub basehub_url: Option<String>,
    /// A token that may read the repository; needed with `basehub_url`.
    pub basehub_token: Option<SecretString>,
    /// What BaseHub signs its webhooks with, at least 16 characters; without it they are answered with 404.
    pub basehub_webhook_secret: Option<SecretString>,
    /// How many numbers one `vector.search` may compare, vectors times dimensions, 1 to 1,000,000,000. Default 50,000,000.
    pub vector_max_components: usize,
}

impl Settings {
    /// What BaseHub's webhooks are checked with.
    pub fn basehub_webhook(&self) -> Option<SharedSecret> {
        let secret = self.basehub_webhook_secret.as_ref()?;
        Some(SharedSecret::new(check::webhook_secret(secret.expose_secret())))
    }

    /// The NATS server as a user, when it has a URL of its own.
    pub fn nats_url_of(&self, user: User) -> Option<&SecretString> {
        match user {
            User::Operator => self.nats_url.as_ref(),
            User::CommandApi => self.nats_url_command_api.as_ref(),
            User::QueryApi => self.nats_url_query_api.as_ref(),
            User::Worker => self.nats_url_worker.as_ref(),
            User::Projector => self.nats_url_projector.as_ref(),
        }
    }

    /// The files for TLS with the NATS server.
    pub fn nats_tls(&self) -> TlsFiles {
        TlsFiles { ca: self.nats_ca_file.clone(), certificate: self.nats_cert_file.clone().zip(self.nats_key_file.clone()) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which defaults apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `toolgate up`: one person's machine, so limits that get in the way of a load test are high.
    Up,
    /// Everything else.
    Server,
}

/// Settings given as flags: keys and values, the strongest source.
pub type Flags = Vec<(&'static str, String)>;

/// Why the settings cannot be used. Every message names the key or variable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings file exists but cannot be read.
    #[error("cannot read toolgate.toml: {0}")]
    File(#[source] io::Error),
    /// The file is no TOML.
    #[error("{FILE}, line {line}: {message}")]
    Syntax { line: usize, message: String },
    /// A value has the wrong type.
    #[error("{0}")]
    Value(#[from] config::ConfigError),
    /// A key of the file that is no setting.
    #[error("{FILE}: `{key}` is not a setting{hint}")]
    UnknownKey { key: String, hint: String },
    /// A variable with the prefix that is no setting.
    #[error("the environment variable {variable} is not a setting{hint}")]
    UnknownVariable { variable: String, hint: String },
    /// A value of the right type that makes no sense.
    #[error("the setting `{key}` {problem}")]
    Impossible { key: &'static str, problem: String },
}

impl Settings {
    /// Reads the settings from `flags`, the environment and the file in the current directory.
    ///
    /// # Errors
    /// On an unknown key or variable, a value of the wrong type, and a value out of range.
    pub fn load(profile: Profile, flags: Flags) -> Result<Self, Error> {
        let file = match fs::read_to_string(FILE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::File(error)),
        };
        // A variable that is not Unicode cannot be one of ours.
        let environment =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect();
        Self::from_sources(profile, flags, environment, &file)
    }

    /// Whether tokens of the development key are accepted: no other issuer's keys are named.
    pub fn trusts_dev_issuer(&self) -> bool {
        self.jwks_file.is_none() && self.jwks_url.is_none()
    }

    fn from_sources(profile: Profile, flags: Flags, environment: HashMap<String, String>, file: &str) -> Result<Self, Error> {
        check::syntax(file)?;
        let file = File::from_str(file, FileFormat::Toml);
        check::keys(&file.collect()?)?;
        check::variables(&environment)?;
        let urls = URLS.map(|(key, variable)| {
            let value = environment.get(variable).filter(|value| !value.is_empty());
            (key, value.cloned())
        });
        let prefixed = Environment::with_prefix("TOOLGATE").prefix_separator("_").ignore_empty(true).source(Some(environment));
        let mut builder = defaults(profile)?.add_source(file).add_source(prefixed);
        for (key, value) in urls {
            builder = builder.set_override_option(key, value)?;
        }
        for (key, value) in flags {
            builder = builder.set_override(key, value)?;
        }
        let settings: Self = builder.build()?.try_deserialize()?;
        check::values(&settings)?;
        Ok(settings)
    }
}

fn defaults(profile: Profile) -> Result<config::ConfigBuilder<config::builder::DefaultState>, config::ConfigError> {
    let rate_limit = match profile {
        Profile::Up => 600_000,
        Profile::Server => 6_000,
    };
    Config::builder()
        .set_default("listen", "127.0.0.1:8080")?
        .set_default("data_dir", ".toolgate")?
        .set_default("partitions", 16)?
        .set_default("body_limit_bytes", 256 * 1024)?
        .set_default("durable", true)?
        .set_default("issuer", "toolgate-dev")?
        .set_default("audience", "toolgate")?
        .set_default("lanes", Vec::<String>::new())?
        .set_default("lane_concurrency", 64)?
        .set_default("lane_concurrency_by_lane", "")?
        .set_default("result_cache_bytes", 64 * 1024 * 1024)?
        .set_default("circuit_open_ms", 5_000)?
        .set_default("ack_wait_ms", 30_000)?
        .set_default("max_open_calls", 10_000)?
        .set_default("rate_limit_per_minute", rate_limit)?
        .set_default("jwks_refresh_seconds", 300)?
        .set_default("tool_rate_limits", "")?
        .set_default("max_concurrent_requests", 2_048)?
        .set_default("max_connections", 20_000)?
        .set_default("header_timeout_ms", 10_000)?
        .set_default("body_timeout_ms", 30_000)?
        .set_default("egress_allow", Vec::<String>::new())?
        .set_default("egress_private_networks", Vec::<String>::new())?
        .set_default("mcp", "{}")?
        .set_default("mcp_pin_first", true)?
        .set_default("mcp_refresh_seconds", 60)?
        .set_default("projector_batch", 1_000)?
        .set_default("task_webhook_first_pause_ms", 5_000)?
        .set_default("vector_max_components", 50_000_000)?
        .set_default("log_format", "text")
}

/// A table of numbers, or text such as `a=1,b=2` as the environment has it.
fn limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Limits {
        Table(BTreeMap<String, u32>),
        Text(String),
    }
    let text = match Limits::deserialize(deserializer)? {
        Limits::Table(limits) => return Ok(limits),
        Limits::Text(text) => text,
    };
    let limit = |item: &str| {
        let parsed = item.split_once('=').and_then(|(name, limit)| Some((name.trim().to_owned(), limit.trim().parse().ok()?)));
        parsed.ok_or_else(|| serde::de::Error::custom(format!("{item:?} is not <name>=<number>")))
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(limit).collect()
}

/// An array, or text separated by commas as the environment has it.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Array(Vec<String>),
        Text(String),
    }
    let items = match List::deserialize(deserializer)? {
        List::Array(items) => items,
        List::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
    };
    Ok(items.into_iter().filter(|item| !item.is_empty()).collect())
}
