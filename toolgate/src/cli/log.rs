//! `toolgate log`.

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use sqlx::postgres::PgPoolOptions;
use toolgate_events::Partition;
use toolgate_projector::Recovery;
use toolgate_store::User;

use super::{Common, Error};
use crate::{
    services::{Connections, PostgresRole},
    settings::Profile,
};

/// Repair the event log
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate log restore --partition 3")]
pub(super) struct Log {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put back what a partition lost of the events that were projected from it, from the audit trail and its archive
    ///
    /// It goes on where the partition's stream ends, so that it can be run again after it was interrupted. Stop the command APIs and the
    /// workers first: what is appended meanwhile takes the place of what is lost.
    #[command(after_help = "Example:\n  toolgate log restore --partition 3")]
    Restore(Restore),
}

#[derive(Debug, Args)]
struct Restore {
    /// The partition's number
    #[arg(long)]
    partition: u16,
    #[command(flatten)]
    common: Common,
}

impl Log {
    pub async fn run(self) -> Result<(), Error> {
        let Action::Restore(restore) = self.action;
        restore.run().await
    }
}

impl Restore {
    async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        if self.partition >= settings.partitions {
            return Err(Error::NoSuchPartition { partition: self.partition, partitions: settings.partitions });
        }
        let connections = Connections::for_role(&settings, User::Operator, Some(PostgresRole::Projector))?;
        let database = PgPoolOptions::new().max_connections(2).connect_lazy(connections.projector.expose_secret())?;
        let log = connections.open_log_as_operator(&settings).await?;
        let partition = Partition(self.partition);
        let mut recovery = Recovery::begin(&log, database, partition).await?;
        let count = recovery.remaining();
        while recovery.remaining() > 0 {
            log.restore(recovery.next().await?).await?;
            eprintln!("partition {partition}: {} of {count} events put back", count - recovery.remaining());
        }
        if count == 0 {
            eprintln!("partition {partition}: the log holds everything that was projected from it");
        }
        Ok(())
    }
}
