//! `toolgate projector`.

use clap::Args;

use super::{Common, Error};
use crate::roles::Role;

/// Run the part that writes read models and the audit trail
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate projector")]
pub(super) struct Projector {
    #[command(flatten)]
    common: Common,
}

impl Projector {
    pub async fn run(self) -> Result<(), Error> {
        self.common.run_role(Role::Projector, vec![]).await
    }
}
