use async_nats::jetstream::{self, stream::Config};
use toolgate_events::mcp::{Acceptance, Change, Sighting, ToolName};

use crate::{
    EntryError, Log, LogError, Login,
    connect::connect,
    entries::{Entries, PATIENCE},
};

const STREAM: &str = "MCP";
const SUBJECTS: &str = "mcp.>";
/// Written by workers.
const SEEN: &str = "mcp.seen.";
/// Written by operators alone.
const ACCEPTED: &str = "mcp.accepted.";

/// What is known of the tools of upstream MCP servers: a stream beside the log with two entries for each tool, what workers have
/// seen and what an operator has accepted.
#[derive(Clone, Debug)]
pub struct Definitions(Entries);

/// Why definitions could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    #[error(transparent)]
    Connect(#[from] LogError),
    #[error("the definitions of MCP tools: {0}")]
    Entry(#[from] EntryError),
}

impl Definitions {
    /// On the connection of a log.
    pub fn of(log: &Log) -> Self {
        Self(Entries::new(log.context.clone(), STREAM, SUBJECTS))
    }

    /// On a connection of its own, without the log.
    ///
    /// # Errors
    /// [`DefinitionsError::Connect`]
    pub async fn connect(login: Login<'_>) -> Result<Self, DefinitionsError> {
        let context = jetstream::context::ContextBuilder::new().timeout(PATIENCE).build(connect(login).await?);
        Ok(Self(Entries::new(context, STREAM, SUBJECTS)))
    }

    /// Everything that has changed after a stream sequence, and the sequence it is read up to.
    ///
    /// # Errors
    /// [`DefinitionsError::Entry`]; nothing is known then.
    pub async fn read_after(&self, sequence: u64) -> Result<(Vec<(ToolName, Change)>, u64), DefinitionsError> {
        let (entries, sequence) = self.0.read_after(sequence).await?;
        let mut changes = Vec::with_capacity(entries.len());
        for (subject, payload) in entries {
            match decode(&subject, &payload) {
                Ok(change) => changes.extend(change),
                // The tool stays as it was known; the others, and the process, need not suffer for it.
                Err(error) => tracing::error!(subject, error = %error, "what is known of an MCP tool cannot be read"),
            }
        }
        Ok((changes, sequence))
    }

    /// Puts down what a worker has seen of a tool, when it follows from what was seen before that there is something new.
    ///
    /// # Errors
    /// [`DefinitionsError::Entry`]; the same again is safe.
    pub async fn see(&self, name: &ToolName, next: impl Fn(Option<Sighting>) -> Sighting) -> Result<(), DefinitionsError> {
        let next = |before: Option<Option<Sighting>>| {
            let before = before.flatten();
            let after = next(before.clone());
            (before.as_ref() != Some(&after)).then_some(Some(after))
        };
        match self.0.update(&subject(SEEN, name), next).await {
            // Not replaced either: a later release may have written it, and a new first sight would pin what nobody has looked at.
            Err(EntryError::Json(error)) => {
                tracing::error!(tool = %name, error = %error, "what is known of an MCP tool cannot be read");
                Ok(())
            }
            seen => Ok(seen?),
        }
    }

    /// Puts down what an operator has accepted.
    ///
    /// # Errors
    /// [`DefinitionsError::Entry`]; the same again is safe.
    pub async fn accept(&self, name: &ToolName, acceptance: &Acceptance) -> Result<(), DefinitionsError> {
        Ok(self.0.replace(&subject(ACCEPTED, name), &Some(acceptance)).await?)
    }

    /// Forgets a tool: what is seen of it next is seen for the first time.
    ///
    /// # Errors
    /// [`DefinitionsError::Entry`]; the same again is safe.
    pub async fn forget(&self, name: &ToolName) -> Result<(), DefinitionsError> {
        // In this order a tool is at no time called by a definition that was given up.
        self.0.replace(&subject(SEEN, name), &None::<Sighting>).await?;
        Ok(self.0.replace(&subject(ACCEPTED, name), &None::<Acceptance>).await?)
    }
}

/// The stream that holds the entries.
pub(crate) fn config() -> Config {
    Entries::config(STREAM, SUBJECTS)
}

fn subject(kind: &str, name: &ToolName) -> String {
    format!("{kind}{}.{}", name.server, name.tool)
}

/// Nothing for a subject that a later release may have added.
fn decode(subject: &str, payload: &[u8]) -> Result<Option<(ToolName, Change)>, serde_json::Error> {
    if let Some(name) = subject.strip_prefix(SEEN).and_then(ToolName::parse) {
        return Ok(Some((name, Change::Seen(serde_json::from_slice(payload)?))));
    }
    let name = subject.strip_prefix(ACCEPTED).and_then(ToolName::parse);
    name.map(|name| Ok((name, Change::Accepted(serde_json::from_slice(payload)?)))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_subject() {
        let name = ToolName::new("s", "t").unwrap();
        assert_eq!(decode("mcp.seen.s.t", b"null").unwrap(), Some((name.clone(), Change::Seen(None))));
        assert_eq!(decode("mcp.accepted.s.t", b"null").unwrap(), Some((name, Change::Accepted(None))));
        for stranger in ["mcp.seen.s", "mcp.seen.s.T", "mcp.other.s.t", "mcp.accepted.S.t"] {
            assert_eq!(decode(stranger, b"null").unwrap(), None, "{stranger}");
        }
        assert!(decode("mcp.seen.s.t", b"x").is_err());
    }
}
