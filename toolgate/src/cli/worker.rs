//! `toolgate worker`.

use clap::Args;

use super::{Common, Error};
use crate::roles::Role;

/// Run the part that executes tool calls
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate worker --lanes search,render")]
pub(super) struct Worker {
    /// The lanes to serve, separated by commas [default: every lane]
    #[arg(long, value_name = "LANE,…")]
    lanes: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Worker {
    pub async fn run(self) -> Result<(), Error> {
        let lanes = self.lanes.clone().map(|lanes| ("lanes", lanes));
        self.common.run_role(Role::Worker, lanes.into_iter().collect()).await
    }
}
