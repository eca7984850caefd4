//! `toolgate schema`.

mod contracts;
mod page;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use toolgate_events::tools;
use toolgate_security::describe;

use self::contracts::Published;
use super::Error;
use crate::services::permission_variables;

/// Write the interface as files: the OpenAPI and AsyncAPI documents, the contract and a page of every tool, and who may do what on NATS
///
/// A contract that breaks callers of the published one is not written until its version is raised.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate schema --check")]
pub(super) struct Schema {
    /// Where the files are
    #[arg(long, default_value = "schemas", value_name = "FOLDER")]
    folder: PathBuf,
    /// Where the files for a deployment are
    #[arg(long, default_value = "deploy", value_name = "FOLDER")]
    deploy: PathBuf,
    /// Where the pages of the tools are
    #[arg(long, default_value = "docs/tools", value_name = "FOLDER")]
    pages: PathBuf,
    /// Contracts that have landed, when those in the folder are not to be trusted: nothing may break them either
    #[arg(long, value_name = "FOLDER")]
    baseline: Option<PathBuf>,
    /// Write nothing; fail when a file differs from the code
    #[arg(long)]
    check: bool,
}

impl Schema {
    pub fn run(self) -> Result<(), Error> {
        let published = Published::read(&self.folder.join(TOOLS))?;
        let mut objections = published.objections(tools::all())?;
        if let Some(baseline) = &self.baseline {
            objections.extend(published.objections_since(&Published::read(baseline)?, tools::all())?);
        }
        if !objections.is_empty() {
            return Err(Error::Contracts(objections));
        }
        let mut files: Vec<_> = files(&published)?.into_iter().map(|(name, text)| (self.folder.join(name), text)).collect();
        files.extend(page::all(tools::all()).into_iter().map(|(name, text)| (self.pages.join(name), text)));
        files.push((self.deploy.join("nats-permissions.conf"), permission_variables()));
        for (path, text) in files {
            if self.check {
                let kept = fs::read_to_string(&path).unwrap_or_default();
                if kept != text {
                    return Err(Error::Drift(path));
                }
            } else {
                write(&path, &text).map_err(|source| Error::Folder { folder: path.clone(), source })?;
            }
        }
        Ok(())
    }
}

/// The folder of the contracts, within that of the interface.
const TOOLS: &str = "tools";

/// Every file of the interface with its text.
fn files(published: &Published) -> Result<Vec<(String, String)>, Error> {
    let mut openapi = toolgate_command_api::openapi();
    openapi.merge(toolgate_query_api::openapi());
    let mut schemas = toolgate_command_api::schemas();
    schemas.extend(toolgate_query_api::schemas());
    let mut files = vec![
        ("openapi.json".to_owned(), pretty(&describe(openapi, schemas)?)?),
        ("asyncapi.json".to_owned(), pretty(&toolgate_query_api::asyncapi())?),
    ];
    for contract in tools::all() {
        let superseded = published.superseded_by(contract)?;
        files.extend(superseded.map(|(name, text)| (format!("{TOOLS}/{name}"), text)));
        files.push((format!("{TOOLS}/{}.json", contract.name), pretty(contract)?));
    }
    Ok(files)
}

fn pretty(value: &impl serde::Serialize) -> Result<String, Error> {
    // Through a value, so that the order of keys does not hang on a type's definition.
    Ok(format!("{:#}\n", serde_json::to_value(value)?))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}
