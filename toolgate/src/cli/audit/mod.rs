//! `toolgate audit`.

mod checkpoint;
mod export;
mod verify;

use clap::{Args, Subcommand};

use super::Error;

/// Export an audit trail, sign where it stands, and prove an export
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate audit export --tenant demo | toolgate audit verify - --tenant demo")]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Verify),
    Export(export::Export),
    Checkpoint(checkpoint::Checkpoint),
}

impl Audit {
    pub async fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Verify(verify) => verify.run(),
            Command::Export(export) => export.run().await,
            Command::Checkpoint(checkpoint) => checkpoint.run().await,
        }
    }
}
