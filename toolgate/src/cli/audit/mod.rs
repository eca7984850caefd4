//! `toolgate audit`.

mod archive;
mod checkpoint;
mod export;
mod verify;

use clap::{Args, Subcommand};

use super::Error;

/// Prove, keep and move the audit trail
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate audit export --tenant demo | toolgate audit verify - --tenant demo")]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Verify(verify::Verify),
    Export(export::Export),
    Checkpoint(checkpoint::Checkpoint),
    Archive(archive::Archive),
}

impl Audit {
    pub async fn run(self) -> Result<(), Error> {
        match self.action {
            Action::Verify(verify) => verify.run(),
            Action::Export(export) => export.run().await,
            Action::Checkpoint(checkpoint) => checkpoint.run().await,
            Action::Archive(archive) => archive.run().await,
        }
    }
}
