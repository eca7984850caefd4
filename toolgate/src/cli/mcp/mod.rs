//! `toolgate mcp`.

mod difference;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use toolgate_events::mcp::{Entry, Known, State, ToolName, is_server};
use toolgate_store::Definitions;

use super::{Common, Error};

/// Look at the tools of upstream MCP servers, and accept what has changed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate mcp list\n  toolgate mcp diff files\n  toolgate mcp accept files read_file")]
pub(super) struct Mcp {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every tool that is known, with its state and the hashes of what is pinned and of what the server says
    #[command(after_help = "Example:\n  toolgate mcp list")]
    List(List),
    /// What a server says otherwise than it is pinned
    #[command(after_help = "Example:\n  toolgate mcp diff files read_file")]
    Diff(Which),
    /// Pin what a server says now; every replica follows within seconds
    #[command(after_help = "Example:\n  toolgate mcp accept files read_file --hash 3f0c2d41")]
    Accept(Accept),
    /// Forget what is known; what the server says next counts as seen for the first time
    #[command(after_help = "Example:\n  toolgate mcp forget files")]
    Forget(Which),
}

#[derive(Debug, Args)]
struct List {
    /// Only this server
    #[arg(value_parser = server)]
    server: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Which {
    /// The server, as the settings name it
    #[arg(value_parser = server)]
    server: String,
    /// One of its tools; all of them when absent
    tool: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Accept {
    #[command(flatten)]
    which: Which,
    /// Accept nothing else: the hash, or its beginning, as `list` and `diff` show it
    #[arg(long, requires = "tool", value_parser = hash)]
    hash: Option<String>,
    /// Who accepts, for the record
    #[arg(long, env = "USER", default_value = "operator", value_name = "NAME")]
    by: String,
}

impl Mcp {
    pub async fn run(self) -> Result<(), Error> {
        match self.action {
            Action::List(List { server, common }) => {
                let known = read(&common.definitions().await?).await?;
                let entries = known.entries().filter(|(name, _)| server.as_ref().is_none_or(|server| name.server == *server));
                entries.for_each(|(name, entry)| println!("{}", line(name, entry)));
                Ok(())
            }
            Action::Diff(which) => {
                let known = read(&which.common.definitions().await?).await?;
                for (name, entry) in which.entries(&known)? {
                    if matches!(entry.state(), State::Quarantined | State::Waiting) {
                        println!("{}", line(name, entry));
                        difference::lines(entry.pinned(), entry.live()).iter().for_each(|line| println!("  {line}"));
                    }
                }
                Ok(())
            }
            Action::Accept(accept) => {
                #[expect(clippy::disallowed_methods, reason = "the command line is where an acceptance gets its time")]
                let now = Utc::now();
                accept.run(now).await
            }
            Action::Forget(which) => {
                let definitions = which.common.definitions().await?;
                let known = read(&definitions).await?;
                for (name, _) in which.entries(&known)? {
                    definitions.forget(name).await?;
                    eprintln!("{name} is forgotten");
                }
                Ok(())
            }
        }
    }
}

impl Accept {
    async fn run(self, now: DateTime<Utc>) -> Result<(), Error> {
        let Self { which, hash, by } = self;
        let definitions = which.common.definitions().await?;
        let known = read(&definitions).await?;
        for (name, entry) in which.entries(&known)? {
            let Some(acceptance) = entry.accept(by.clone(), now) else { continue };
            let live = acceptance.definition.hash();
            if hash.as_ref().is_some_and(|hash| !live.starts_with(hash.as_str())) {
                return Err(Error::Mcp(format!("{name} is {} by now; look at it again", short(&live))));
            }
            definitions.accept(name, &acceptance).await?;
            eprintln!("{name} is accepted as {} (version {})", short(&live), acceptance.version);
        }
        Ok(())
    }
}

impl Which {
    /// What is meant.
    ///
    /// # Errors
    /// When nothing of it is known.
    fn entries<'a>(&self, known: &'a Known) -> Result<Vec<(&'a ToolName, &'a Entry)>, Error> {
        let tool = self.tool.as_ref().map(|tool| tool.to_ascii_lowercase());
        let is_meant = |name: &ToolName| name.server == self.server && tool.as_ref().is_none_or(|tool| name.tool == *tool);
        let entries: Vec<_> = known.entries().filter(|(name, _)| is_meant(name)).collect();
        if entries.is_empty() {
            return Err(Error::Mcp(format!("nothing is known of that; `toolgate mcp list {}` shows what is", self.server)));
        }
        Ok(entries)
    }
}

async fn read(definitions: &Definitions) -> Result<Known, Error> {
    let mut known = Known::default();
    let (changes, _) = definitions.read_after(0).await?;
    changes.into_iter().for_each(|(name, change)| known.note(name, change));
    Ok(known)
}

/// One tool, in columns that a program can split at tabs.
fn line(name: &ToolName, entry: &Entry) -> String {
    let hash = |definition: Option<&toolgate_events::mcp::Definition>| {
        definition.map_or_else(|| "-".to_owned(), |definition| short(&definition.hash()).to_owned())
    };
    let accepted = match (&entry.acceptance, entry.sighting.as_ref().and_then(|sighting| sighting.first_at)) {
        (Some(acceptance), _) => format!("accepted by {} at {}", difference::visible(&acceptance.by), acceptance.at.to_rfc3339()),
        (None, Some(first_at)) => format!("first seen at {}", first_at.to_rfc3339()),
        (None, None) => "not accepted".to_owned(),
    };
    let (pinned, live) = (hash(entry.pinned()), hash(entry.live()));
    format!("{name}\t{}\tpinned {pinned}\tnow {live}\tversion {}\t{accepted}", entry.state().as_str(), entry.version())
}

/// Enough of a hash to tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

fn server(text: &str) -> Result<String, String> {
    if is_server(text) { Ok(text.to_owned()) } else { Err("1 to 32 characters of a-z, 0-9 and -".to_owned()) }
}

fn hash(text: &str) -> Result<String, String> {
    let is_hash = (8..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hash { Ok(text.to_owned()) } else { Err("at least 8 hex digits in lower case".to_owned()) }
}
