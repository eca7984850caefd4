//! `toolgate query-api`.

use clap::Args;

use super::{Common, Error};
use crate::roles::Role;

/// Run the part that answers queries
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate query-api --listen 0.0.0.0:8080")]
pub(super) struct QueryApi {
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    common: Common,
}

impl QueryApi {
    pub async fn run(self) -> Result<(), Error> {
        let listen = self.listen.map(|listen| ("listen", listen.to_string()));
        self.common.run_role(Role::QueryApi, listen.into_iter().collect()).await
    }
}
