//! `toolgate audit export`.

use std::io::{self, BufWriter, Write};

use clap::Args;
use toolgate_events::TenantId;
use toolgate_query_api::AuditExport;
use uuid::Uuid;

use super::Error;
use crate::{
    cli::{Common, token::tenant},
    roles,
    services::{Connections, PostgresRole},
    settings::Profile,
};

/// Write a tenant's audit trail to the standard output, straight from the database
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
        let pool = roles::read_pool(&Connections::resolve_login(&settings, PostgresRole::Reader)?)?;
        let mut export = AuditExport::begin(pool, TenantId(self.tenant), self.after).await?;
        let mut output = BufWriter::new(io::stdout().lock());
        while let Some(lines) = export.next_lines().await? {
            output.write_all(&lines).map_err(Error::Output)?;
        }
        output.flush().map_err(Error::Output)
    }
}
