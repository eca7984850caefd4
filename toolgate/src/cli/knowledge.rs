//! `toolgate knowledge`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Common, Error};
use crate::{
    dev_issuer::{Claims, DevIssuer},
    loader::{self, Options},
    services::Connections,
    settings::Profile,
};

const LOAD_EXAMPLE: &str = "Example:\n  toolgate knowledge load docs\n  toolgate knowledge load handbook faq.ndjson --locale id";

/// Work with a tenant's knowledge base
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLE)]
pub(super) struct Knowledge {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Load(Load),
}

/// Load Markdown and JSON lines into the knowledge base of the toolgate that is running
///
/// Loading again writes what has changed and goes on where an interrupted load was; what has disappeared from the files stays. Names
/// what it cannot load, loads the rest, and then exits with 1.
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLE)]
struct Load {
    /// Folders and files: a .md file is a document named by its path, with title, locale and source from its front matter; each line of
    /// a .ndjson or .jsonl file holds the arguments of a knowledge.upsert. Links inside folders are not followed
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The tenant, a uuid or the word demo
    #[arg(long, default_value = "demo", value_parser = super::token::tenant)]
    tenant: Uuid,
    /// The language of Markdown that does not say it (BCP 47)
    #[arg(long, default_value = "en")]
    locale: String,
    /// Requests at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Where toolgate is, such as http://127.0.0.1:8080 [default: the one that runs in the data directory]
    #[arg(long)]
    url: Option<String>,
    /// Call it with this token [default: a token of the development key]
    #[arg(long, conflicts_with = "tenant")]
    token: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Knowledge {
    pub async fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Load(load) => load.run().await,
        }
    }
}

impl Load {
    async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        let url = self.url.map_or_else(|| Connections::running_url(&settings.data_dir), Ok)?;
        let token = match self.token {
            Some(token) => token,
            None => {
                let claims = Claims::lasting(&settings, "knowledge-loader", self.tenant, &["agent"], chrono::Duration::hours(24));
                DevIssuer::load(&settings.data_dir)?.mint(&claims)?
            }
        };
        let options = Options { url, token, paths: self.paths, locale: self.locale, concurrency: usize::from(self.concurrency) };
        let summary = loader::load(&options).await?;
        eprintln!("{summary}");
        if summary.failed > 0 { Err(loader::Error::Faults(summary.failed).into()) } else { Ok(()) }
    }
}
