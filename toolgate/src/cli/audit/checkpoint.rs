//! `toolgate audit checkpoint`.

use std::io::{self, Write};

use clap::Args;
use toolgate_events::TenantId;
use uuid::Uuid;

use super::Error;
use crate::{
    audit_key,
    cli::{Common, token::tenant},
    roles::{self, Context, Role},
    services::Connections,
    settings::Profile,
};

/// Sign where audit trails stand now, write that wherever the settings say, and print it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate audit checkpoint --tenant demo >> checkpoints.jsonl")]
pub(super) struct Checkpoint {
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant, required_unless_present = "all")]
    tenant: Option<Uuid>,
    /// Every tenant
    #[arg(long, conflicts_with = "tenant")]
    all: bool,
    #[command(flatten)]
    common: Common,
}

impl Checkpoint {
    pub async fn run(self) -> Result<(), Error> {
        let mut settings = self.common.settings(Profile::Server, vec![])?;
        crate::cli::log(&settings, "warn");
        let data_dir = settings.data_dir.clone();
        audit_key::settle(&mut settings, &data_dir);
        let connections = Connections::for_role(&settings, Role::Projector.user(), Role::Projector.login())?;
        let context = Context { settings, connections };
        let checkpoints = roles::audit_checkpoints(&context).await?.ok_or(roles::Error::NoAuditKey)?;
        let mut failed = 0;
        for outcome in checkpoints.sign_now(self.tenant.map(TenantId)).await? {
            match outcome {
                Ok(checkpoint) => io::stdout().write_all(checkpoint.to_line().as_bytes()).map_err(Error::Output)?,
                Err(error) => {
                    failed += 1;
                    tracing::error!(error = %error, "an audit checkpoint was not made");
                }
            }
        }
        if failed > 0 { Err(Error::NotWritten(failed)) } else { Ok(()) }
    }
}
