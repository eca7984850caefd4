use std::{fs, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use toolgate_events::{Lane, tools};
use toolgate_projector::Projector;
use toolgate_security::{
    AllowList, Egress, EgressLimits, Guard, KeySet, Networks, Policy, ReadPool, SystemResolver, TokenVerifier, Violations,
};
use toolgate_store::{Artifacts, Clock, Log, LogOptions};
use toolgate_workers::Worker;

use super::{Context, Error};
use crate::{dev_issuer::DevIssuer, secrets};

/// Connections a role keeps to the database at the most.
const POOL_SIZE: u32 = 10;
/// How long a request waits for one of them before it is answered with 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// No statement of a reader runs longer, whoever has stopped waiting for it.
const STATEMENT_TIMEOUT: &str = "15s";

/// What the roles are put together from.
pub struct Parts<'a> {
    context: &'a Context,
    dev_issuer: Option<&'a DevIssuer>,
    violations: Violations,
    log: Log,
    clock: Clock,
}

impl<'a> Parts<'a> {
    pub async fn open(context: &'a Context, dev_issuer: Option<&'a DevIssuer>, violations: Violations) -> Result<Self, Error> {
        let settings = &context.settings;
        let options = LogOptions { partitions: settings.partitions, max_bytes: settings.log_max_bytes, replicas: 1 };
        let log = Log::open(context.connections.nats.expose_secret(), &options).await?;
        Ok(Self { context, dev_issuer, violations, log, clock: Clock::system() })
    }

    pub async fn command_api(&self, registry: &mut Registry) -> Result<toolgate_command_api::State, Error> {
        Ok(toolgate_command_api::State::open(self.guard()?, self.log.clone(), self.clock, registry).await?)
    }

    pub async fn query_api(&self, registry: &mut Registry) -> Result<toolgate_query_api::State, Error> {
        let settings = &self.context.settings;
        let secret = settings.cursor_secret.clone().unwrap_or_else(|| self.clock.new_id().to_string().into());
        let options = toolgate_query_api::Options::new(secret);
        let artifacts = Artifacts::open(&self.log).await?;
        let pool = self.read_pool(true)?;
        Ok(toolgate_query_api::State::open(self.guard()?, pool, self.log.clone(), artifacts, &options, registry).await?)
    }

    /// Only entrances need it: a worker knows no keys.
    fn guard(&self) -> Result<Guard, Error> {
        let settings = &self.context.settings;
        let keys = keys(self.context, self.dev_issuer)?;
        Ok(Guard {
            verifier: Arc::new(TokenVerifier::new(keys, &settings.issuer, &settings.audience)),
            policy: Arc::new(policy(self.context)?),
            body_limit: settings.body_limit_bytes,
            violations: self.violations.clone(),
        })
    }

    pub async fn worker(&self, registry: &mut Registry) -> Result<Worker, Error> {
        let settings = &self.context.settings;
        let environment = toolgate_workers::Environment {
            log: self.log.clone(),
            // A query that meets a dead connection is run again by the runtime.
            database: self.read_pool(false)?,
            artifacts: Artifacts::open(&self.log).await?,
            egress: self.egress()?,
            redactor: secrets::redactor(settings, &self.context.connections),
            clock: self.clock,
        };
        let options = toolgate_workers::Options {
            lanes: lanes(&settings.lanes)?,
            lane_concurrency: settings.lane_concurrency,
            ack_wait: Duration::from_millis(settings.ack_wait_ms),
        };
        Ok(Worker::open(environment, options, registry).await?)
    }

    fn egress(&self) -> Result<Egress, Error> {
        let settings = &self.context.settings;
        let allow = AllowList::parse(&settings.egress_allow).map_err(Error::Egress)?;
        let networks = Networks::parse(&settings.egress_private_networks).map_err(Error::Egress)?;
        let resolver = Arc::new(SystemResolver);
        Egress::new(allow, networks, EgressLimits::default(), resolver, self.violations.clone()).map_err(Error::Egress)
    }

    pub fn projector(&self, registry: &mut Registry) -> Result<Projector, Error> {
        let settings = &self.context.settings;
        let environment = toolgate_projector::Environment {
            log: self.log.clone(),
            database: pool(&self.context.connections.projector, false, None)?,
        };
        let options = toolgate_projector::Options { batch_size: settings.projector_batch };
        Ok(Projector::new(environment, options, registry))
    }

    fn read_pool(&self, test_connections: bool) -> Result<ReadPool, Error> {
        Ok(ReadPool::new(pool(&self.context.connections.reader, test_connections, Some(STATEMENT_TIMEOUT))?))
    }
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

fn keys(context: &Context, dev_issuer: Option<&DevIssuer>) -> Result<KeySet, Error> {
    if context.settings.jwks_url.is_some() {
        // Falling back to another issuer would trust somebody the operator did not name.
        return Err(Error::JwksUrl);
    }
    let (path, document) = match (&context.settings.jwks_file, dev_issuer) {
        (Some(path), _) => {
            let document = fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })?;
            (path.display().to_string(), document)
        }
        (None, Some(dev_issuer)) => ("the development key".to_owned(), jwks_document(dev_issuer)?),
        (None, None) => return Err(Error::NoKeys),
    };
    KeySet::parse(&document).map_err(|source| Error::Keys { path, source })
}

/// The development issuer's public keys (RFC 7517).
pub fn jwks_document(dev_issuer: &DevIssuer) -> Result<String, Error> {
    serde_json::to_string(&dev_issuer.jwks()).map_err(|error| Error::Demo(error.to_string()))
}

fn policy(context: &Context) -> Result<Policy, Error> {
    let (path, policy) = match &context.settings.policy_file {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })?;
            (path.display().to_string(), Policy::parse(&text))
        }
        None => ("the built-in policy".to_owned(), Policy::built_in()),
    };
    policy.map_err(|source| Error::Policy { path, source })
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
