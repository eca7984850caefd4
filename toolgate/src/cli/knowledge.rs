//! `toolgate knowledge`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest, Sha256};
use toolgate_events::canonical::hex;
use toolgate_store::Clock;
use uuid::Uuid;

use super::{Common, Error};
use crate::{
    dev_issuer::{Claims, DevIssuer},
    services::Connections,
    settings::Profile,
};

const LOAD_EXAMPLE: &str = "Example:\n  toolgate knowledge load docs";

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

/// Load a folder of Markdown files into the knowledge base of the toolgate that is running
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLE)]
struct Load {
    /// Every .md file below it becomes a document named by its path; loading it again replaces what changed
    folder: PathBuf,
    /// The tenant, a uuid or the word demo
    #[arg(long, default_value = "demo", value_parser = super::token::tenant)]
    tenant: Uuid,
    /// The language of the documents (BCP 47)
    #[arg(long, default_value = "en")]
    locale: String,
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
        let url = Connections::running_url(&settings.data_dir)?;
        let issuer = DevIssuer::load(&settings.data_dir)?;
        let claims = Claims::lasting(&settings, "knowledge-loader", self.tenant, &["agent"], chrono::Duration::hours(1));
        let token = issuer.mint(&claims)?;
        let mut files = Vec::new();
        markdown_files(&self.folder, &mut files).map_err(|source| Error::Folder { folder: self.folder.clone(), source })?;
        files.sort();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().map_err(Error::Http)?;
        let load = Clock::system().new_id();
        for file in &files {
            let content = fs::read_to_string(file).map_err(|source| Error::Folder { folder: file.clone(), source })?;
            let name = file.display().to_string();
            // A key for this load alone: a text that comes back after another one must replace it again.
            let key = format!("{load}:{}", hex(&Sha256::digest(&name)));
            let arguments =
                json!({"document_id": name, "title": title(&content, file), "content": content, "locale": self.locale});
            let answer = http
                .post(format!("{url}/v1/tool-calls"))
                .bearer_auth(&token)
                .header("idempotency-key", key)
                .header("prefer", "wait=30")
                .json(&json!({"tool": "knowledge.upsert", "arguments": arguments}))
                .send()
                .await
                .map_err(Error::Http)?;
            let (status, body) = (answer.status(), answer.text().await.map_err(Error::Http)?);
            if !status.is_success() {
                return Err(Error::Answer { name, body });
            }
            println!("{name}");
        }
        eprintln!("{} documents are in the knowledge base", files.len());
        Ok(())
    }
}

/// The first heading, or else the file's name.
fn title(content: &str, file: &Path) -> String {
    let heading = content.lines().find_map(|line| line.strip_prefix("# "));
    let name = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    heading.map_or_else(name, |heading| heading.trim().to_owned())
}

fn markdown_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            markdown_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}
