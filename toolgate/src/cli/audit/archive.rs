//! `toolgate audit archive`.

use chrono::{TimeDelta, Utc};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgPool, postgres::PgPoolOptions};
use toolgate_events::TenantId;
use toolgate_projector::{Archived, Archiver};
use toolgate_store::{Archive as Bucket, User};
use uuid::Uuid;

use crate::{
    cli::{Common, Error, token::tenant},
    services::{Connections, PostgresRole},
    settings::Profile,
};

/// Move old stretches of the audit trail into compressed segments in the object store
///
/// A segment is written, read back and verified before its rows leave the table. Everything that reads the trail reads on across
/// the border.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate audit archive --all --older-than-days 90")]
pub(super) struct Archive {
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant, required_unless_present = "all", conflicts_with = "all")]
    tenant: Option<Uuid>,
    /// Every tenant
    #[arg(long)]
    all: bool,
    /// Archive what occurred so many days ago, or earlier
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(..=36_500), required_unless_present = "verify")]
    older_than_days: Option<u32>,
    /// Archive nothing; check every segment, and that the table continues the last one
    #[arg(long, conflicts_with = "older_than_days")]
    verify: bool,
    /// Rows in one segment at the most
    #[arg(long, value_name = "ROWS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    segment_rows: u32,
    #[command(flatten)]
    common: Common,
}

impl Archive {
    pub async fn run(self) -> Result<(), Error> {
        let archiver = self.archiver().await?;
        let only = self.tenant.map(TenantId);
        let tenants = match only {
            Some(tenant) => vec![tenant],
            None => archiver.tenants().await?,
        };
        for tenant in tenants {
            match self.older_than_days {
                Some(days) => {
                    #[expect(clippy::disallowed_methods, reason = "how old something is, is told by the clock")]
                    let before = Utc::now() - TimeDelta::days(days.into());
                    let Archived { segments, rows } = archiver.archive(tenant, before).await?;
                    eprintln!("{tenant}: {rows} rows in {segments} new segments");
                }
                None => {
                    let rows = archiver.verify(tenant).await?;
                    eprintln!("{tenant}: {rows} archived rows verified");
                }
            }
        }
        if self.verify {
            for name in archiver.strangers(only).await? {
                eprintln!("{name} is listed nowhere: a run ended before it was; nothing reads it");
            }
        }
        Ok(())
    }

    async fn archiver(&self) -> Result<Archiver, Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        let connections = Connections::for_role(&settings, User::Operator, Some(PostgresRole::Projector))?;
        let owner = Connections::resolve_owner(&settings)?;
        let log = connections.open_log_as_operator(&settings).await?;
        let archive = Bucket::open(&log).await.map_err(toolgate_projector::ArchiveError::from)?;
        Ok(Archiver {
            archive,
            rows: pool(&connections.projector)?,
            owner: pool(&owner)?,
            segment_rows: self.segment_rows as usize,
        })
    }
}

fn pool(url: &SecretString) -> Result<PgPool, Error> {
    let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url.expose_secret());
    pool.map_err(|error| toolgate_projector::ArchiveError::from(error).into())
}
