//! `toolgate policy`.

mod check;
mod redecide;
mod test;

use std::{fs, path::Path};

use clap::{Args, Subcommand};
use toolgate_security::{Policy, PolicyFileError};

use super::Error;

/// Look into a policy file before it is used
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate policy check policy.toml")]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Test(test::Test),
}

impl PolicyCommand {
    pub async fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Test(test) => test.run().await,
        }
    }
}

fn read(path: &Path) -> Result<Policy, PolicyFileError> {
    let text = fs::read_to_string(path).map_err(|source| PolicyFileError::Read { path: path.to_owned(), source })?;
    Policy::parse(&text).map_err(|source| PolicyFileError::Policy { path: path.to_owned(), source })
}
