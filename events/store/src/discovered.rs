use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};
use toolgate_events::{
    Catalog,
    mcp::{Known, Sighting, ToolName},
};

use crate::{Definitions, DefinitionsError, Log};

/// How often a process asks what has changed.
const INTERVAL: Duration = Duration::from_secs(1);

/// One process's reading of the definitions, which keeps its catalog up to date. Clones share it.
#[derive(Clone, Debug)]
pub struct Discovered {
    definitions: Definitions,
    catalog: Catalog,
    read: Arc<Mutex<Read>>,
}

#[derive(Debug, Default)]
struct Read {
    known: Known,
    /// Up to where it has come.
    sequence: u64,
}

impl Discovered {
    /// Reads everything for the first time: a worker that did not know a tool would fail its calls.
    ///
    /// # Errors
    /// [`DefinitionsError::Entry`]
    pub async fn open(log: &Log, catalog: Catalog) -> Result<Self, DefinitionsError> {
        let own = Self { definitions: Definitions::of(log), catalog, read: Arc::default() };
        own.refresh().await?;
        Ok(own)
    }

    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Brings the catalog up to date.
    ///
    /// # Errors
    /// [`DefinitionsError::Entry`]; the catalog is as it was.
    pub async fn refresh(&self) -> Result<(), DefinitionsError> {
        let mut read = self.read.lock().await;
        let (changes, sequence) = self.definitions.read_after(read.sequence).await?;
        if !changes.is_empty() {
            tracing::info!(changes = changes.len(), "what is known of MCP tools has changed");
            changes.into_iter().for_each(|(name, change)| read.known.note(name, change));
            let (offered, withheld) = read.known.contracts();
            self.catalog.replace(offered, withheld);
        }
        read.sequence = sequence;
        Ok(())
    }

    /// What workers have seen of a server's tools.
    pub async fn sightings(&self, server: &str) -> HashMap<ToolName, Sighting> {
        let read = self.read.lock().await;
        let own = read.known.entries().filter(|(name, _)| name.server == server);
        own.filter_map(|(name, entry)| Some((name.clone(), entry.sighting.clone()?))).collect()
    }

    /// Asks again and again.
    pub async fn follow(self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_read = true;
        loop {
            ticks.tick().await;
            let read = self.refresh().await;
            // Only the change is news.
            match &read {
                Err(error) if was_read => tracing::warn!(error = %error, "cannot read what is known of MCP tools; trying again"),
                Ok(()) if !was_read => tracing::info!("what is known of MCP tools can be read again"),
                _ => {}
            }
            was_read = read.is_ok();
        }
    }
}
