//! A system of the bench's own: private services, a log, tenants with documents, and the processes that come and go.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use toolgate_events::{CallId, Envelope, TenantId};
use toolgate_security::ReadPool;
use toolgate_store::{Clock, Log, LogOptions, Recorded};

use super::{
    Error, INTAKE_EVENT, OUTCOME_EVENT, REQUEST_EVENT,
    child::{Part, Process},
    http::{Connection, Kind, Outgoing},
    road::Road,
    template::Template,
    tenants::{self, Tenant},
};
use crate::{
    dev_issuer::DevIssuer,
    master_keys, migrations,
    services::{Connections, EphemeralOptions, Progress, Services},
};

/// How long the projection may take to catch up.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(10);

/// The system.
#[derive(Debug)]
pub struct Stage {
    services: Services,
    pub directory: PathBuf,
    pub log: Log,
    read: ReadPool,
    pub clock: Clock,
    pub tenants: Arc<[Tenant]>,
    /// The most memory that any process of a part has had, in bytes.
    peaks: HashMap<&'static str, u64>,
}

/// The roles behind the command-api, running.
#[derive(Debug)]
pub struct Roles {
    pub worker: Process,
    pub projector: Process,
    pub query_api: Process,
}

impl Stage {
    /// Starts the services and makes the tenants.
    pub async fn open(durable: bool, tenants: u16, progress: &Progress) -> Result<Self, Error> {
        let services = Services::ephemeral(EphemeralOptions { durable, accounts: 0 }, progress).await?;
        let connections = services.connections();
        migrations::migrate(&connections.owner).await?;
        let directory = services.temporary_dir().map(|data| data.path().to_owned()).unwrap_or_default();
        let issuer = DevIssuer::load_or_create(&directory)?;
        let clock = Clock::system();
        master_keys::create_if_missing(&directory)?;
        let log = Log::open(
            connections.nats.expose_secret(),
            &LogOptions { master_keys: Some(master_keys::of_data_dir(&directory)?), ..LogOptions::default() },
        )
        .await?;
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy(connections.reader.expose_secret())?;
        let tenants = tenants::mint(&issuer, tenants, clock)?;
        Ok(Self { directory, log, read: ReadPool::new(pool), clock, tenants, services, peaks: HashMap::new() })
    }

    pub fn connections(&self) -> &Connections {
        self.services.connections()
    }

    /// Loads the documents and takes the moulds of real events for the floors.
    pub async fn prepare(&mut self, command_api: &Process) -> Result<(), Error> {
        let roles = self.start_roles().await?;
        tenants::load_documents(&command_api.address, &self.tenants).await?;
        self.caught_up().await?;
        let accepted = self.record_of(command_api, Kind::Intake).await?;
        let finished = self.record_of(command_api, Kind::Synchronous).await?;
        self.stop_roles(roles).await?;
        let [accepted, ..] = accepted.as_slice() else { return Err(Error::Bug("an accepted call has no event".to_owned())) };
        let [request, .., outcome] = finished.as_slice() else { return Err(Error::Bug("a call has no outcome".to_owned())) };
        for (name, recorded) in [(INTAKE_EVENT, accepted), (REQUEST_EVENT, request), (OUTCOME_EVENT, outcome)] {
            Template::store(&Envelope::decode(&recorded.payload)?, &self.directory.join(name))?;
        }
        Ok(())
    }

    /// Makes a call and answers with what the log has of it.
    async fn record_of(&self, command_api: &Process, kind: Kind) -> Result<Vec<Recorded>, Error> {
        let key = self.clock.new_id().to_string();
        let headers: &[_] = match kind {
            Kind::Intake => &[("content-type", "application/json"), ("idempotency-key", key.as_str())],
            Kind::Synchronous | Kind::Cached => &[("content-type", "application/json"), ("prefer", "wait=30")],
        };
        let tenant = self.tenants.first().ok_or(Error::Token)?;
        let request = Outgoing::post("/v1/tool-calls", tenant, headers, kind.body());
        let mut connection = Connection::open(&command_api.address).await.map_err(Error::Http)?;
        let (status, body) = connection.ask(request).await.map_err(Error::Http)?;
        let unexpected = || Error::Answer { status, body: String::from_utf8_lossy(&body).into_owned() };
        let answer: Value = serde_json::from_slice(&body).map_err(|_| unexpected())?;
        let call: CallId = answer["call_id"].as_str().and_then(|id| id.parse().ok()).ok_or_else(unexpected)?;
        let subject = self.log.locate(TenantId(tenants::id(0)), call).await?.ok_or_else(unexpected)?;
        Ok(self.log.load(&subject).await?)
    }

    pub async fn start(&self, part: Part) -> Result<Process, Error> {
        self.start_with(part, &[]).await
    }

    /// Starts a part with other settings than the bench's own.
    pub async fn start_with(&self, part: Part, variables: &[(&str, &str)]) -> Result<Process, Error> {
        Process::start(part, &self.directory, self.services.connections(), variables).await
    }

    pub async fn stop(&mut self, process: Process) -> Result<(), Error> {
        if let Some(bytes) = process.peak_bytes() {
            let peak = self.peaks.entry(process.part().name()).or_default();
            *peak = bytes.max(*peak);
        }
        process.stop().await
    }

    /// Starts the roles and waits until the projection has caught up with what is in the log.
    pub async fn start_roles(&self) -> Result<Roles, Error> {
        let (worker, projector, query_api) =
            tokio::try_join!(self.start(Part::Worker), self.start(Part::Projector), self.start(Part::QueryApi))?;
        self.caught_up().await?;
        Ok(Roles { worker, projector, query_api })
    }

    pub async fn stop_roles(&mut self, roles: Roles) -> Result<(), Error> {
        let Roles { worker, projector, query_api } = roles;
        for process in [worker, query_api, projector] {
            self.stop(process).await?;
        }
        Ok(())
    }

    /// The most memory that a part has had, in megabytes, since it was last asked for.
    pub fn take_peak(&mut self, part: Part) -> Option<f64> {
        self.peaks.remove(part.name()).map(|bytes| bytes as f64 / 1e6)
    }

    /// Events in the log that are not projected yet.
    pub async fn behind(&self) -> Result<u64, Error> {
        let logged: u64 = self.log.state().await?.iter().map(|state| state.last_sequence).sum();
        let mut projected: HashMap<String, u64> = HashMap::new();
        for (projection, _, sequence) in self.read.projection_checkpoints().await? {
            *projected.entry(projection).or_default() += sequence.unsigned_abs();
        }
        Ok(logged.saturating_sub(projected.into_values().min().unwrap_or_default()))
    }

    pub async fn caught_up(&self) -> Result<(), Error> {
        let deadline = Instant::now() + CATCH_UP_PATIENCE;
        while self.behind().await? > 0 {
            if Instant::now() > deadline {
                return Err(Error::NeverCaughtUp);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub fn road(&self, command_api: &Process, roles: &Roles) -> Road {
        Road {
            commands: command_api.address.clone(),
            queries: roles.query_api.address.clone(),
            tenants: Arc::clone(&self.tenants),
        }
    }

    pub async fn close(self) {
        self.services.stop().await;
    }
}
