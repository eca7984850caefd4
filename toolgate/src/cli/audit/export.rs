//! `toolgate audit export`.

use std::io::{self, BufWriter, Write};

use clap::Args;
use toolgate_events::TenantId;
use toolgate_query_api::AuditExport;
use toolgate_store::{Archive, User};
use uuid::Uuid;

use super::Error;
use crate::{
    cli::{Common, token::tenant},
    roles,
    services::{Connections, PostgresRole},
    settings::Profile,
};

/// Write a tenant's audit trail to the standard output, straight from the database and the archive
///
/// The lines are those of GET /v1/audit/export.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate audit export --tenant demo > audit.ndjson")]
pub(super) struct Export {
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant)]
    tenant: Uuid,
    /// The position to begin after
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    common: Common,
}

impl Export {
    pub async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        crate::cli::log(&settings, "warn");
        let connections = Connections::for_role(&settings, User::QueryApi, Some(PostgresRole::Reader))?;
        // Old rows may be in the archive.
        let archive = Archive::open(&connections.open_log(User::QueryApi, &settings).await?).await.map_err(roles::Error::from)?;
        let pool = roles::read_pool(&connections.reader)?;
        let mut export = AuditExport::begin(pool, archive, TenantId(self.tenant), self.after).await?;
        let mut output = BufWriter::new(io::stdout().lock());
        while let Some(lines) = export.next_lines().await? {
            output.write_all(&lines).map_err(Error::Output)?;
        }
        output.flush().map_err(Error::Output)
    }
}
