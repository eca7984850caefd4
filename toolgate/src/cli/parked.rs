//! `toolgate parked`.

use std::io::Write;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use sqlx::{PgPool, postgres::PgPoolOptions};
use toolgate_events::TenantId;
use toolgate_projector::parked::{self, Which};
use toolgate_store::User;
use uuid::Uuid;

use super::{Common, Error, token::tenant};
use crate::{
    services::{Connections, PostgresRole},
    settings::{Profile, Settings},
};

/// Look at events that could not be projected, and project them after all
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate parked list")]
pub(super) struct Parked {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the parked events, and the messages that no worker could read
    #[command(after_help = "Example:\n  toolgate parked list --tenant demo")]
    List(Selection),
    /// Project parked events as this release understands them; the projector may go on meanwhile
    #[command(after_help = "Example:\n  toolgate parked retry --tenant demo --position 17")]
    Retry(Selection),
}

#[derive(Debug, Args)]
struct Selection {
    /// The tenant's uuid, or `demo`; every tenant when absent
    #[arg(long, value_parser = tenant)]
    tenant: Option<Uuid>,
    /// The position of one parked event; what waits for it comes along
    #[arg(long, requires = "tenant", value_parser = clap::value_parser!(u64).range(1..))]
    position: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Parked {
    pub async fn run(self) -> Result<(), Error> {
        match self.action {
            Action::List(selection) => selection.list().await,
            Action::Retry(selection) => selection.retry().await,
        }
    }
}

impl Selection {
    async fn list(self) -> Result<(), Error> {
        let (settings, connections, database) = self.open()?;
        let mut out = std::io::stdout().lock();
        let entries = parked::list(&database, self.which()).await?;
        for entry in &entries {
            writeln!(
                out,
                "{}  position {}  event {}  {} v{}  call {}  since {}  {}: {}",
                entry.tenant_id,
                entry.position,
                entry.stream_sequence,
                printable(&entry.event_type),
                entry.event_version,
                entry.aggregate_id,
                entry.parked_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                entry.kind,
                printable(&entry.reason),
            )
            .map_err(Error::Output)?;
        }
        let mut messages = self.messages(&settings, &connections).await?;
        messages.retain(|message| self.tenant.is_none_or(|tenant| message.subject.contains(&tenant.to_string())));
        for message in &messages {
            let (subject, reason) = (printable(&message.subject), printable(&message.reason));
            writeln!(out, "worker  {subject}  event {}  {reason}", message.stream_sequence).map_err(Error::Output)?;
        }
        eprintln!("parked events: {}; messages set aside by workers: {}", entries.len(), messages.len());
        Ok(())
    }

    async fn retry(self) -> Result<(), Error> {
        let (settings, connections, database) = self.open()?;
        // What was said may be sealed, and the keys are beside the log.
        let log = connections.open_log_as_operator(&settings).await?;
        let retried = parked::retry(&database, log.keys(), self.which()).await?;
        eprintln!("projected: {}; still parked: {}", retried.projected, retried.still_parked);
        if retried.still_parked > 0 { Err(Error::StillParked(retried.still_parked)) } else { Ok(()) }
    }

    fn which(&self) -> Which {
        Which { tenant: self.tenant.map(TenantId), position: self.position }
    }

    /// The database as the projector, and NATS as the operator: the streams beside the log are nobody else's to read.
    fn open(&self) -> Result<(Settings, Connections, PgPool), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        let connections = Connections::for_role(&settings, User::Operator, Some(PostgresRole::Projector))?;
        let database = PgPoolOptions::new().max_connections(2).connect_lazy(connections.projector.expose_secret())?;
        Ok((settings, connections, database))
    }

    async fn messages(&self, settings: &Settings, connections: &Connections) -> Result<Vec<toolgate_store::Parked>, Error> {
        let log = connections.open_log_as_operator(settings).await?;
        log.parked().await.map_err(|error| Error::Parked(error.to_string()))
    }
}

/// Event types and reasons may come from whoever wrote to the log: nothing in them may steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_log_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}é"), "a\u{fffd}[2J\u{fffd}b\u{fffd}é");
    }
}
