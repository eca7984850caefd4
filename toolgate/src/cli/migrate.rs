//! `toolgate migrate`.

use clap::Args;

use super::{Common, Error};
use crate::{migrations, services::Connections, settings::Profile};

/// Bring the database schema up to date
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  DATABASE_URL=postgres://owner@db/toolgate toolgate migrate")]
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
        Ok(())
    }
}
