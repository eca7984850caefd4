//! `toolgate audit`.

use clap::{Args, Subcommand};

use super::Error;

mod archive;

/// Prove, keep and move the audit trail
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate audit archive --all --older-than-days 90")]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Archive(archive::Archive),
}

impl Audit {
    pub async fn run(self) -> Result<(), Error> {
        match self.action {
            Action::Archive(archive) => archive.run().await,
        }
    }
}
