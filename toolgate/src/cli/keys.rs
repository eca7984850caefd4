//! `toolgate keys`.

use clap::{Args, Subcommand};
use toolgate_events::TenantId;
use toolgate_store::{Custody, MasterKeys, Scope, User};
use uuid::Uuid;

use super::{Common, Error, token::tenant};
use crate::{services::Connections, settings::Profile};

/// The keys that content is sealed with
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate keys list")]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a file with a new master key, for TOOLGATE_MASTER_KEY_FILE
    #[command(after_help = "Example:\n  toolgate keys generate > master-keys.json")]
    Generate,
    /// List whose keys there are, and how old
    #[command(after_help = "Example:\n  toolgate keys list")]
    List(All),
    /// Give a tenant a new key, which seals from now on; the ones before it still open
    #[command(after_help = "Example:\n  toolgate keys rotate --tenant demo")]
    Rotate(Which),
    /// Wrap every key under the first master key of the file, so that the others are needed no more
    #[command(after_help = "Example:\n  toolgate keys rewrap")]
    Rewrap(All),
}

#[derive(Debug, Args)]
struct All {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Which {
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant)]
    tenant: Uuid,
    /// Only the key of what is about this data subject
    #[arg(long, value_name = "ID")]
    data_subject: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Keys {
    pub async fn run(self) -> Result<(), Error> {
        match self.action {
            Action::Generate => println!("{}", MasterKeys::generate()?),
            Action::List(All { common }) => {
                for held in custody(&common).await?.list().await? {
                    println!("{held}");
                }
            }
            Action::Rotate(Which { tenant, data_subject, common }) => {
                let log = open(&common).await?;
                let tenant = TenantId(tenant);
                let scope = match data_subject {
                    Some(id) => log.keys().scope_of(tenant, id.trim()).await?,
                    None => Scope::tenant(),
                };
                log.keys().custody()?.rotate(tenant, &scope).await?;
                eprintln!("a new key seals from now on; every process follows within 5 seconds");
            }
            Action::Rewrap(All { common }) => {
                let scopes = custody(&common).await?.rewrap().await?;
                eprintln!("the keys of {scopes} scopes are wrapped under the first master key");
            }
        }
        Ok(())
    }
}

async fn custody(common: &Common) -> Result<Custody, Error> {
    Ok(open(common).await?.keys().custody()?)
}

async fn open(common: &Common) -> Result<toolgate_store::Log, Error> {
    let settings = common.settings(Profile::Server, vec![])?;
    let connections = Connections::for_role(&settings, User::Operator, None)?;
    Ok(connections.open_log_with_keys(&settings).await?)
}
