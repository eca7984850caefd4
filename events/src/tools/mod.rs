//! The contracts of the tools: what goes in, what comes out, and what running one may cost.
//!
//! A contract is the one description of a tool. The API validates against it, the worker runs by it, `GET /v1/tools` shows it.

mod document_render;
mod http_request;
mod knowledge_get;
mod knowledge_search;
mod knowledge_upsert;
mod task_create;

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use document_render::{DocumentFormat, DocumentRenderInput, DocumentRenderOutput};
pub use http_request::{HttpMethod, HttpRequestInput, HttpRequestOutput};
pub use knowledge_get::{KnowledgeGetInput, KnowledgeGetOutput};
pub use knowledge_search::{KnowledgeFilters, KnowledgeHit, KnowledgeSearchInput, KnowledgeSearchOutput};
pub use knowledge_upsert::{KnowledgeUpsertInput, KnowledgeUpsertOutput, SEARCH_CONFIGS, search_config};
pub use task_create::{TaskCreateInput, TaskCreateOutput};

use crate::{Lane, canonical};

/// The version every contract starts with.
pub const FIRST_VERSION: u32 = 1;

/// The registry: one line a tool.
static CONTRACTS: LazyLock<Vec<Contract>> = LazyLock::new(|| {
    vec![
        knowledge_upsert::contract(),
        knowledge_search::contract(),
        knowledge_get::contract(),
        document_render::contract(),
        task_create::contract(),
        http_request::contract(),
    ]
});

/// What running a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideEffects {
    /// None: it may run any number of times.
    ReadOnly,
    /// The same effect however often it runs.
    Idempotent,
    /// Every run is another effect: a worker claims the call durably first.
    Effectful,
}

/// One tool's contract.
#[derive(Clone, Debug, Serialize)]
pub struct Contract {
    pub name: &'static str,
    pub version: u32,
    pub description: &'static str,
    pub side_effects: SideEffects,
    pub lane: Lane,
    /// How long one attempt may run unless the caller asks for less, in milliseconds.
    pub timeout_ms: u32,
    /// How often the call may be run when attempts are lost.
    pub max_attempts: u32,
    /// JSON Schema 2020-12.
    pub input_schema: Value,
    /// JSON Schema 2020-12.
    pub output_schema: Value,
    /// Arguments that the input schema accepts.
    pub examples: Vec<Value>,
}

impl Contract {
    /// SHA-256 over the canonical form of the whole contract.
    ///
    /// # Errors
    /// None for a contract; the signature is serde's.
    pub fn hash(&self) -> Result<String, serde_json::Error> {
        Ok(canonical::sha256_hex(&serde_json::to_value(self)?))
    }

    /// Whether a call must carry an `Idempotency-Key`.
    pub fn needs_idempotency_key(&self) -> bool {
        self.side_effects != SideEffects::ReadOnly
    }

    /// How long one attempt may run: the contract's time, or less when the caller asked for less.
    pub fn timeout(&self, asked_ms: Option<u32>) -> Duration {
        Duration::from_millis(u64::from(asked_ms.unwrap_or(self.timeout_ms).min(self.timeout_ms)))
    }
}

/// Every tool, in the order of the registry.
pub fn all() -> &'static [Contract] {
    &CONTRACTS
}

/// The contract called `name`.
pub fn find(name: &str) -> Option<&'static Contract> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Contract>> =
        LazyLock::new(|| CONTRACTS.iter().map(|contract| (contract.name, contract)).collect());
    BY_NAME.get(name).copied()
}

/// Every lane that some tool runs in.
pub fn lanes() -> Vec<Lane> {
    let mut lanes: Vec<_> = CONTRACTS.iter().map(|contract| contract.lane.clone()).collect();
    lanes.sort();
    lanes.dedup();
    lanes
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

fn lane(name: &str) -> Lane {
    match Lane::new(name) {
        Ok(lane) => lane,
        Err(error) => unreachable!("the registry names its lanes itself: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for contract in all() {
            assert_eq!(find(contract.name).map(|found| found.name), Some(contract.name));
            assert!(contract.max_attempts >= 1 && contract.timeout_ms >= 100);
            assert!(!contract.examples.is_empty(), "{} has no example", contract.name);
        }
        let mut names: Vec<_> = all().iter().map(|contract| contract.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert!(find("no.such").is_none());
    }

    #[test]
    fn a_caller_may_only_shorten_the_timeout() {
        let contract = find("knowledge.search").unwrap();
        assert_eq!(contract.timeout(None), contract.timeout(Some(u32::MAX)));
        assert_eq!(contract.timeout(Some(5)), Duration::from_millis(5));
    }
}
