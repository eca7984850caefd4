//! The private PostgreSQL and nats-server behind `toolgate up`, `toolgate bench` and the test-suite.
//!
//! A service never outlives the process that started it. What the environment already offers
//! (`DATABASE_URL`, `NATS_URL`) is used instead of starting anything.

mod binaries;
mod connections;
mod data_dir;
mod error;
mod guard;
mod janitor;
mod log_tail;
mod nats;
mod nats_users;
mod port;
mod postgres;
mod postgres_files;
mod progress;
mod run_as;
mod secret;
mod server_tls;
mod wheel;

pub use connections::Connections;
pub use data_dir::DataDir;
pub use error::Error;
pub use nats::{MAX_PAYLOAD_BYTES, Nats, NatsOptions};
pub use nats_users::{permission_table, permission_variables};
pub use postgres::{DATABASE, Postgres, PostgresOptions, PostgresRole};
pub use progress::{Progress, Step};
pub use server_tls::ServerTls;

pub(crate) use data_dir::write_private;

use std::time::Duration;

use connections::{Broker, Database};
use tokio::time::sleep;
use toolgate_store::LogOptions;

use crate::settings::Settings;

/// What to start when nothing may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EphemeralOptions {
    /// Both services write through to the disk; needed for honest measurements, slow for tests.
    pub durable: bool,
    /// See [`NatsOptions::accounts`].
    pub accounts: usize,
}

/// Running services and how to reach them. Dropping it stops what it started.
#[derive(Debug)]
pub struct Services {
    postgres: Option<Postgres>,
    nats: Option<Nats>,
    connections: Connections,
    /// Dropped last: it holds the lock.
    data: Option<DataDir>,
}

impl Services {
    /// Starts, in parallel, whichever service `settings` does not already give a URL for. The caller keeps `data`
    /// open for as long as the services run.
    ///
    /// # Errors
    /// One sentence per cause; nothing is left running.
    pub async fn start(data: &DataDir, settings: &Settings, progress: &Progress) -> Result<Self, Error> {
        let external = Connections::given(settings)?;
        let database = async {
            if let Some(database) = external.database {
                return Ok((database, None));
            }
            // The read side can be rebuilt from the log, but that is no reason to lose it.
            let options = PostgresOptions { durable: true, tls: None };
            let postgres = Postgres::start(data, options, progress).await?;
            Ok::<_, Error>((Database::private(&postgres), Some(postgres)))
        };
        let log = async {
            if let Some(broker) = external.broker {
                return Ok((broker, None));
            }
            let options = NatsOptions { durable: settings.durable, accounts: 0, partitions: settings.partitions, tls: None };
            let nats = Nats::start(data, options, progress).await?;
            Ok((Broker::private(&nats, 0), Some(nats)))
        };
        let ((database, postgres), (broker, nats)) = tokio::try_join!(database, log)?;
        let connections = Connections::new(database, broker);
        Ok(Self { postgres, nats, connections, data: None })
    }

    /// Starts both services in a temporary directory that disappears with them, whatever the environment offers.
    ///
    /// # Errors
    /// As [`Services::start`].
    pub async fn ephemeral(options: EphemeralOptions, progress: &Progress) -> Result<Self, Error> {
        let EphemeralOptions { durable, accounts } = options;
        let partitions = LogOptions::default().partitions;
        let data = DataDir::temporary()?;
        let (postgres, nats) = tokio::try_join!(
            Postgres::start(&data, PostgresOptions { durable, tls: None }, progress),
            Nats::start(&data, NatsOptions { durable, accounts, partitions, tls: None }, progress),
        )?;
        let connections = Connections::new(Database::private(&postgres), Broker::private(&nats, 0));
        Ok(Self { postgres: Some(postgres), nats: Some(nats), connections, data: Some(data) })
    }

    /// How to reach the services.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The private PostgreSQL; `None` when `DATABASE_URL` names another one.
    pub fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// As [`Services::postgres`], to kill and restart it.
    pub fn postgres_mut(&mut self) -> Option<&mut Postgres> {
        self.postgres.as_mut()
    }

    /// The private nats-server; `None` when `NATS_URL` names another one.
    pub fn nats(&self) -> Option<&Nats> {
        self.nats.as_ref()
    }

    /// As [`Services::nats`], to kill and restart it.
    pub fn nats_mut(&mut self) -> Option<&mut Nats> {
        self.nats.as_mut()
    }

    /// The temporary directory of [`Services::ephemeral`]; `None` otherwise.
    pub fn temporary_dir(&self) -> Option<&DataDir> {
        self.data.as_ref()
    }

    /// Waits until a private service ends by itself, and says why it did; never returns while all goes well.
    pub async fn failure(&mut self) -> Error {
        loop {
            let postgres = self.postgres.as_mut().and_then(Postgres::failure);
            let nats = self.nats.as_mut().and_then(Nats::failure);
            match postgres.or(nats) {
                Some(error) => return error,
                None => sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Stops what was started and returns when it has ended.
    pub async fn stop(mut self) {
        let postgres = async {
            if let Some(postgres) = &mut self.postgres {
                postgres.stop().await;
            }
        };
        let nats = async {
            if let Some(nats) = &mut self.nats {
                nats.stop().await;
            }
        };
        tokio::join!(postgres, nats);
    }
}

#[cfg(test)]
mod tests;
