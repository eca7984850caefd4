use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;
use toolgate_events::{Catalog, Lane, tools};
use toolgate_projector::{
    Projector,
    audit_checkpoints::{AuditCheckpoints, CheckpointDir, CheckpointWebhook, Sink},
};
use toolgate_query_api::SafeMode;
use toolgate_security::{
    Admission, AllowList, Egress, EgressLimits, EventStreams, Guard, Limiter, Networks, Policies, Policy, RateLimits, ReadPool,
    SystemResolver, Violations, WebhookSecret,
};
use toolgate_store::{Archive, Artifacts, CheckpointBucket, Clock, Discovered, Log};
use toolgate_workers::{BaseHub, Mcp, McpOptions, McpServer, McpTransport, Pattern, ResultCache, Webhook, Worker};

use super::{Context, Error, Role, access::Access, shared_counters::SharedCounters};
use crate::{
    audit_key,
    dev_issuer::DevIssuer,
    secrets,
    settings::{
        Settings,
        mcp::{self, McpServerSettings},
    },
};

/// Connections a role keeps to the database at the most.
const POOL_SIZE: u32 = 10;
/// How long a request waits for one of them before it is answered with 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// No statement of a reader runs longer, whoever has stopped waiting for it.
const STATEMENT_TIMEOUT: &str = "15s";

/// The longest that an MCP server may be silent: as long as a call of it may take.
const MCP_PATIENCE: Duration = Duration::from_secs(300);

/// How long the receiver of audit checkpoints may take.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(10);

/// What the roles are put together from.
pub struct Parts<'a> {
    context: &'a Context,
    dev_issuer: Option<&'a DevIssuer>,
    violations: Violations,
    /// One for all roles of this process.
    catalog: Catalog,
    discovered: OnceCell<(Discovered, AbortOnDropHandle<()>)>,
    clock: Clock,
    policies: OnceLock<Policies>,
    /// Shared by the APIs of this process.
    access: OnceCell<Access>,
    streams: OnceLock<EventStreams>,
}

impl<'a> Parts<'a> {
    pub fn new(context: &'a Context, dev_issuer: Option<&'a DevIssuer>, violations: Violations) -> Self {
        let clock = Clock::system();
        Self {
            context,
            dev_issuer,
            violations,
            catalog: Catalog::default(),
            discovered: OnceCell::new(),
            clock,
            policies: OnceLock::new(),
            access: OnceCell::new(),
            streams: OnceLock::new(),
        }
    }

    /// The log as one role sees it: over a connection of its own, with that role's permissions.
    async fn log(&self, role: Role) -> Result<Log, Error> {
        Ok(self.context.connections.open_log(role.user(), &self.context.settings).await?)
    }

    /// Fills the catalog, and keeps it up to date for as long as this lives.
    async fn discovered(&self, log: &Log) -> Result<Discovered, Error> {
        let opening = async {
            let discovered = Discovered::open(log, self.catalog.clone()).await?;
            let following = AbortOnDropHandle::new(tokio::spawn(discovered.clone().follow()));
            Ok::<_, Error>((discovered, following))
        };
        let (discovered, _) = self.discovered.get_or_try_init(|| opening).await?;
        Ok(discovered.clone())
    }

    pub async fn command_api(&self, registry: &mut Registry) -> Result<toolgate_command_api::State, Error> {
        let log = self.log(Role::CommandApi).await?;
        self.discovered(&log).await?;
        let guard = self.guard(&log, registry).await?;
        let limits = toolgate_command_api::Limits {
            admission: self.admission(&log, guard.clone()),
            max_open_calls: self.context.settings.max_open_calls,
        };
        let (catalog, streams) = (self.catalog.clone(), self.streams(registry));
        let state = toolgate_command_api::State::open(guard, limits, log, catalog, self.clock, streams, registry).await?;
        Ok(state.with_basehub_webhook(self.context.settings.basehub_webhook()))
    }

    fn admission(&self, log: &Log, guard: Guard) -> Admission {
        let settings = &self.context.settings;
        let limit_of = |(tool, limit): (&String, &u32)| Some((tools::find(tool)?.name, u64::from(*limit)));
        let limits = RateLimits {
            per_tenant: settings.rate_limit_per_minute.into(),
            per_tool: settings.tool_rate_limits.iter().filter_map(limit_of).collect(),
        };
        let clock = self.clock;
        let limiter = Limiter::new(Arc::new(SharedCounters::of(log)), Arc::new(move || clock.now()));
        Admission::new(guard, limiter, limits)
    }

    pub async fn query_api(&self, registry: &mut Registry) -> Result<toolgate_query_api::State, Error> {
        let settings = &self.context.settings;
        let secret = settings.cursor_secret.clone().unwrap_or_else(|| self.clock.new_id().to_string().into());
        let safe_mode = SafeMode {
            interval: Duration::from_millis(settings.stream_safe_interval_ms),
            lag: Duration::from_millis(settings.stream_safe_lag_ms),
        };
        let options = toolgate_query_api::Options::new(secret, self.streams(registry), safe_mode, self.clock);
        let log = self.log(Role::QueryApi).await?;
        self.discovered(&log).await?;
        let buckets = (Artifacts::open(&log).await?, Archive::open(&log).await?);
        let pool = self.read_pool(true)?;
        let guard = self.guard(&log, registry).await?;
        Ok(toolgate_query_api::State::open(guard, pool, log, self.catalog.clone(), buckets, &options, registry).await?)
    }

    /// Both APIs of one process share its connections, so they share the places for streams among them.
    pub fn streams(&self, registry: &mut Registry) -> EventStreams {
        self.streams.get_or_init(|| EventStreams::register(self.context.settings.max_connections, registry)).clone()
    }

    /// Only entrances need it: a worker knows no keys.
    async fn guard(&self, log: &Log, registry: &mut Registry) -> Result<Guard, Error> {
        let settings = &self.context.settings;
        let opening = Access::open(self.context, self.dev_issuer, log, self.clock, registry);
        let access = self.access.get_or_try_init(|| opening).await?;
        Ok(Guard {
            verifier: Arc::clone(&access.verifier),
            policies: self.policies(registry)?,
            body_limit: settings.body_limit_bytes,
            body_timeout: Duration::from_millis(settings.body_timeout_ms),
            violations: self.violations.clone(),
        })
    }

    /// Both APIs of one process share them, so that the file is read once and they decide alike.
    fn policies(&self, registry: &mut Registry) -> Result<Policies, Error> {
        if let Some(policies) = self.policies.get() {
            return Ok(policies.clone());
        }
        let policies = match &self.context.settings.policy_file {
            Some(path) => Policies::watch(path.clone(), registry)?,
            None => Policies::fixed(Policy::built_in()?),
        };
        Ok(self.policies.get_or_init(|| policies).clone())
    }

    pub async fn worker(&self, registry: &mut Registry) -> Result<Worker, Error> {
        let settings = &self.context.settings;
        let log = self.log(Role::Worker).await?;
        let (lanes, redactor) = (lanes(&settings.lanes)?, secrets::redactor(settings, &self.context.connections));
        let discovered = self.discovered(&log).await?;
        // Another worker keeps the servers when this one does not serve their lane.
        let servers = if lanes.contains(&Lane::mcp()) { self.mcp_servers()? } else { Vec::new() };
        let concurrency_by_lane = concurrency_by_lane(&settings.lane_concurrency_by_lane);
        let options = McpOptions {
            refresh: Duration::from_secs(settings.mcp_refresh_seconds),
            trust_first: settings.mcp_pin_first,
            lane_concurrency: concurrency_by_lane.get(Lane::mcp().as_str()).copied().unwrap_or(settings.lane_concurrency),
        };
        let environment = toolgate_workers::Environment {
            artifacts: Artifacts::open(&log).await?,
            results: ResultCache::open(&log, settings.result_cache_bytes).await?,
            log,
            catalog: self.catalog.clone(),
            mcp: Mcp::start(servers, options, discovered.clone(), self.clock, &redactor, registry),
            discovered,
            // A query that meets a dead connection is run again by the runtime.
            database: self.read_pool(false)?,
            egress: self.egress()?,
            vector_max_components: settings.vector_max_components,
            basehub: basehub(settings),
            redactor,
            clock: self.clock,
        };
        let options = toolgate_workers::Options {
            lanes,
            lane_concurrency: settings.lane_concurrency,
            lane_concurrency_by_lane: concurrency_by_lane,
            circuit_open: Duration::from_millis(settings.circuit_open_ms),
            ack_wait: Duration::from_millis(settings.ack_wait_ms),
            webhook: self.webhook(&environment.egress)?,
        };
        Ok(Worker::open(environment, options, registry).await?)
    }

    fn webhook(&self, egress: &Egress) -> Result<Option<Webhook>, Error> {
        let settings = &self.context.settings;
        // The settings have been checked: the secret is there, and it is one.
        let secret = settings.task_webhook_secret.as_ref().and_then(|secret| WebhookSecret::parse(secret.expose_secret()));
        let Some((url, secret)) = settings.task_webhook_url.clone().zip(secret) else { return Ok(None) };
        egress.check(&url).map_err(Error::Webhook)?;
        Ok(Some(Webhook { url, secret, first_pause: Duration::from_millis(settings.task_webhook_first_pause_ms) }))
    }

    fn mcp_servers(&self) -> Result<Vec<McpServer>, Error> {
        let patterns = |patterns: &[String]| patterns.iter().cloned().map(Pattern).collect();
        let server = |(name, server): (&String, &McpServerSettings)| {
            Ok(McpServer {
                name: name.clone(),
                transport: self.mcp_transport(server)?,
                tools: patterns(&server.tools),
                read_only: patterns(&server.read_only),
                idempotent: patterns(&server.idempotent),
                timeout_ms: server.timeout_ms(),
            })
        };
        self.context.settings.mcp.iter().map(server).collect()
    }

    fn mcp_transport(&self, server: &McpServerSettings) -> Result<McpTransport, Error> {
        let Some(url) = &server.url else {
            let plain = server.plain_env.iter().map(|(name, value)| (name.clone(), value.clone().into()));
            let env = server.env.clone().into_iter().chain(plain).collect();
            let command = server.command.clone().unwrap_or_default();
            return Ok(McpTransport::Stdio { command, args: server.args.clone(), env });
        };
        let headers = server.headers.iter().filter_map(|(name, value)| mcp::header(name, value)).collect();
        // Only there: `egress_allow` opens hosts to every caller of `http.request`, who could then pass by the pinned tools.
        let origins: Vec<_> = mcp::origin(url).into_iter().collect();
        let egress =
            self.egress_to(&origins, EgressLimits { idle: MCP_PATIENCE, total: MCP_PATIENCE, ..EgressLimits::default() })?;
        Ok(McpTransport::Http { url: url.clone(), headers, egress })
    }

    fn egress(&self) -> Result<Egress, Error> {
        self.egress_to(&self.context.settings.egress_allow, EgressLimits::default())
    }

    fn egress_to(&self, allow: &[String], limits: EgressLimits) -> Result<Egress, Error> {
        let settings = &self.context.settings;
        let allow = AllowList::parse(allow).map_err(Error::Egress)?;
        let networks = Networks::parse(&settings.egress_private_networks).map_err(Error::Egress)?;
        let resolver = Arc::new(SystemResolver);
        Egress::new(allow, networks, limits, resolver, self.violations.clone()).map_err(Error::Egress)
    }

    pub async fn projector(&self, registry: &mut Registry) -> Result<Projector, Error> {
        let settings = &self.context.settings;
        let environment = projector_environment(self.context, self.log(Role::Projector).await?)?;
        let options = toolgate_projector::Options {
            batch_size: settings.projector_batch,
            verify_events_per_second: settings.audit_verify_events_per_second,
        };
        let audit_checkpoints = match settings.audit_checkpoint_seconds {
            0 => None,
            _ => self.audit_checkpoints(&environment.log, environment.database.clone(), registry).await?,
        };
        let projector = Projector::new(environment, options, registry);
        Ok(match audit_checkpoints {
            Some(audit_checkpoints) => projector.with_audit_checkpoints(audit_checkpoints),
            None => projector,
        })
    }

    /// For whoever projects nothing.
    pub async fn audit_checkpoints_alone(&self, registry: &mut Registry) -> Result<Option<AuditCheckpoints>, Error> {
        let log = self.log(Role::Projector).await?;
        self.audit_checkpoints(&log, pool(&self.context.connections.projector, false, None)?, registry).await
    }

    async fn audit_checkpoints(
        &self,
        log: &Log,
        database: PgPool,
        registry: &mut Registry,
    ) -> Result<Option<AuditCheckpoints>, Error> {
        let settings = &self.context.settings;
        let mut sinks: Vec<_> = settings.audit_checkpoint_dir.iter().cloned().map(CheckpointDir::new).map(Sink::File).collect();
        if settings.audit_checkpoint_bucket {
            sinks.push(Sink::Bucket(CheckpointBucket::open(log).await.map_err(Error::CheckpointBucket)?));
        }
        sinks.extend(self.checkpoint_webhook()?.map(Sink::Webhook));
        let Some(path) = &settings.audit_key_file else {
            return if sinks.is_empty() { Ok(None) } else { Err(Error::NoAuditKey) };
        };
        let every = Duration::from_secs(settings.audit_checkpoint_seconds.max(1));
        let key = audit_key::load(path)?;
        Ok(Some(AuditCheckpoints::new(database, log.clone(), key, every, sinks, registry)))
    }

    fn checkpoint_webhook(&self) -> Result<Option<CheckpointWebhook>, Error> {
        let settings = &self.context.settings;
        // The settings have been checked: the secret is there, and it is one.
        let secret = settings.audit_checkpoint_secret.as_ref().and_then(|secret| WebhookSecret::parse(secret.expose_secret()));
        let Some((url, secret)) = settings.audit_checkpoint_url.clone().zip(secret) else { return Ok(None) };
        // Only there: `egress_allow` opens hosts to every caller of `http.request`.
        let origins: Vec<_> = mcp::origin(&url).into_iter().collect();
        let egress = self.egress_to(&origins, EgressLimits { total: CHECKPOINT_PATIENCE, ..EgressLimits::default() })?;
        egress.check(&url).map_err(Error::CheckpointWebhook)?;
        Ok(Some(CheckpointWebhook { url, secret, egress }))
    }

    fn read_pool(&self, test_connections: bool) -> Result<ReadPool, Error> {
        Ok(ReadPool::new(pool(&self.context.connections.reader, test_connections, Some(STATEMENT_TIMEOUT))?))
    }
}

/// Connections of the reader, for a command.
///
/// # Errors
/// When `url` is no address of a database.
pub fn read_pool(url: &SecretString) -> Result<ReadPool, Error> {
    Ok(ReadPool::new(pool(url, false, Some(STATEMENT_TIMEOUT))?))
}

/// Where a projector reads and writes, whoever runs it.
pub fn projector_environment(context: &Context, log: Log) -> Result<toolgate_projector::Environment, Error> {
    Ok(toolgate_projector::Environment { log, database: pool(&context.connections.projector, false, None)? })
}

fn basehub(settings: &Settings) -> Option<BaseHub> {
    Some(BaseHub { url: settings.basehub_url.clone()?, token: settings.basehub_token.clone()? })
}

/// Connects when first used, so that a role starts while its database is still starting.
fn pool(url: &SecretString, test_connections: bool, timeout: Option<&str>) -> Result<PgPool, Error> {
    let options: PgConnectOptions = url.expose_secret().parse()?;
    let pool =
        PgPoolOptions::new().max_connections(POOL_SIZE).acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(test_connections);
    // The statements are few and alike for every tenant: planning them again for each call would cost more than it finds.
    let options = options.application_name("toolgate").options([("plan_cache_mode", "force_generic_plan")]);
    let options = match timeout {
        Some(timeout) => options.options([("statement_timeout", timeout)]),
        None => options,
    };
    Ok(pool.connect_lazy_with(options))
}

/// The development issuer's public keys (RFC 7517).
pub fn jwks_document(dev_issuer: &DevIssuer) -> Result<String, Error> {
    serde_json::to_string(&dev_issuer.jwks()).map_err(|error| Error::Demo(error.to_string()))
}

/// What was set, and a processor for each rendering: more would only take turns.
fn concurrency_by_lane(set: &BTreeMap<String, u32>) -> BTreeMap<String, usize> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let set = set.iter().map(|(lane, concurrency)| (lane.clone(), *concurrency as usize));
    [("render".to_owned(), processors)].into_iter().chain(set).collect()
}

/// The lanes asked for, or all of them.
fn lanes(names: &[String]) -> Result<Vec<Lane>, Error> {
    let all = tools::lanes();
    if names.is_empty() {
        return Ok(all);
    }
    names
        .iter()
        .map(|name| all.iter().find(|lane| lane.as_str() == name).cloned().ok_or_else(|| Error::UnknownLane(name.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendering_takes_the_processors_unless_it_was_set() {
        let unset = concurrency_by_lane(&BTreeMap::new());
        assert!(unset["render"] >= 1 && unset.len() == 1);
        let set = concurrency_by_lane(&BTreeMap::from([("render".to_owned(), 7), ("http".to_owned(), 3)]));
        assert_eq!((set["render"], set["http"], set.len()), (7, 3, 2));
    }
}
