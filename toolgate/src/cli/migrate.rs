//! `toolgate migrate`.

use clap::Args;

use super::{Common, Error};
use crate::{migrations, services::Connections, settings::Profile};

/// Bring the database schema up to date, and set up the log where NATS_URL or a running toolgate names it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  DATABASE_URL=postgres://owner@db/toolgate NATS_URL=nats://toolgate@nats toolgate migrate")]
pub(super) struct Migrate {
    #[command(flatten)]
    common: Common,
}

impl Migrate {
    pub async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        super::log(&settings, "warn");
        let owner = Connections::resolve_owner(&settings)?;
        migrations::migrate(&owner).await?;
        eprintln!("the database schema is up to date");
        if let Some(operator) = Connections::resolve_operator(&settings) {
            operator.set_up_log(&settings).await?;
            eprintln!("the log is set up");
        }
        Ok(())
    }
}
