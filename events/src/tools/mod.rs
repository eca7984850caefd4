//! The contracts of the tools: what goes in, what comes out, and what running one may cost.
//!
//! A contract is the one description of a tool. The API validates against it, the worker runs by it, `GET /v1/tools` shows it.

pub mod compatibility;

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Lane, canonical};

/// Declares the tools: each is a module with its types and a function `define`.
macro_rules! registry {
    ($($tool:ident)*) => {
        $(mod $tool; pub use $tool::*;)*

        static CONTRACTS: LazyLock<Vec<Contract>> = LazyLock::new(|| vec![$($tool::define()),*]);
    };
}

// One line a tool.
registry! {
    knowledge_upsert
    knowledge_search
    knowledge_get
    template_upsert
    template_get
    document_render
    task_create
    task_update
    task_get
    http_request
    vector_upsert
    vector_search
    basehub_query
}

/// The version every contract starts with.
pub const FIRST_VERSION: u32 = 1;

/// How long a call of several attempts may take.
const LONGEST_TOTAL: Duration = Duration::from_secs(60);

/// What running a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideEffects {
    /// None: it may run any number of times.
    ReadOnly,
    /// The same effect however often it runs.
    Idempotent,
    /// Every run is another effect: a worker claims the call durably first.
    Effectful,
}

/// How often a call may be run, and how long a worker waits before it runs one again: a random time up to a bound that doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Attempts in all, whether the adapter failed or its worker was lost.
    pub max_attempts: u32,
    /// The first bound, in milliseconds.
    pub first_pause_ms: u32,
    /// The last bound, in milliseconds.
    pub last_pause_ms: u32,
}

impl Retry {
    /// With pauses of 0.2 to 5 seconds at the most.
    pub const fn up_to(max_attempts: u32) -> Self {
        Self { max_attempts, first_pause_ms: 200, last_pause_ms: 5_000 }
    }
}

/// When an earlier result of the tenant may be the answer. All times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// How old it may be when the caller names no `freshness_seconds`; 0: only a caller who names one gets it.
    pub default_freshness_seconds: u32,
    /// How old it may be, whatever the caller allows.
    pub max_freshness_seconds: u32,
    /// How old it may be when the other side is down, marked as stale; 0: never.
    pub stale_seconds: u32,
}

impl Cache {
    /// How old a result may be for a caller who asked for so many seconds, or named none.
    pub fn freshness(&self, asked_seconds: Option<u32>) -> Duration {
        let seconds = asked_seconds.unwrap_or(self.default_freshness_seconds).min(self.max_freshness_seconds);
        Duration::from_secs(seconds.into())
    }

    /// How old it may be when the other side is down: never for a caller who wants nothing but a new one.
    pub fn staleness(&self, asked_seconds: Option<u32>) -> Duration {
        let seconds = if asked_seconds == Some(0) { 0 } else { self.stale_seconds };
        Duration::from_secs(seconds.into())
    }
}

/// One tool's contract.
#[derive(Clone, Debug, Serialize)]
pub struct Contract {
    pub name: &'static str,
    pub version: u32,
    pub description: &'static str,
    /// What a caller must be allowed.
    pub permission: String,
    pub side_effects: SideEffects,
    pub lane: Lane,
    /// How long one attempt may run unless the caller asks for less, in milliseconds.
    pub timeout_ms: u32,
    pub retry: Retry,
    /// Absent where every call is run.
    pub cache: Option<Cache>,
    /// Whether `options.locale` makes a difference.
    pub localized: bool,
    /// JSON Schema 2020-12.
    pub input_schema: Value,
    /// JSON Schema 2020-12.
    pub output_schema: Value,
    /// Arguments that the input schema accepts.
    pub examples: Vec<Value>,
    /// Whose tool it is, where it is not our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
}

/// The tool of an upstream server that a contract stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    pub server: String,
    /// As the server spells it.
    pub tool: String,
    /// The definition that is pinned.
    pub definition_sha256: String,
}

impl Contract {
    /// A contract to be completed: what runs at most once, in a lane of its own, and is never cached.
    fn of<Input: JsonSchema, Output: JsonSchema>(name: &'static str, version: u32) -> Self {
        Self {
            name,
            version,
            description: "",
            permission: format!("tool.{name}:invoke"),
            side_effects: SideEffects::Effectful,
            lane: lane(&name.replace('.', "-")),
            timeout_ms: 10_000,
            retry: Retry::up_to(1),
            cache: None,
            localized: false,
            input_schema: schema_of::<Input>(),
            output_schema: schema_of::<Output>(),
            examples: Vec::new(),
            upstream: None,
        }
    }

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

    /// How long all attempts and the pauses between them may take together: what they add up to, but not more than a minute, the
    /// longest that a caller can wait, unless one attempt alone may take longer.
    pub fn total_time(&self, asked_ms: Option<u32>) -> Duration {
        let attempt = self.timeout(asked_ms);
        let pauses = self.retry.max_attempts.saturating_sub(1);
        let all = attempt * self.retry.max_attempts + Duration::from_millis(u64::from(self.retry.last_pause_ms)) * pauses;
        all.min(LONGEST_TOTAL).max(attempt)
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
    let mut lanes: Vec<_> = CONTRACTS.iter().map(|contract| contract.lane.clone()).chain([Lane::mcp()]).collect();
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
            assert!(contract.retry.max_attempts >= 1 && contract.timeout_ms >= 100);
            assert!(!contract.examples.is_empty(), "{} has no example", contract.name);
            assert!(!contract.description.is_empty(), "{} has no description", contract.name);
            assert!(contract.lane.is_of_calls(), "{}: nobody works there", contract.name);
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

    #[test]
    fn a_caller_chooses_a_freshness_within_the_contracts_limits() {
        let cache = Cache { default_freshness_seconds: 10, max_freshness_seconds: 60, stale_seconds: 90 };
        let seconds = |asked| (cache.freshness(asked).as_secs(), cache.staleness(asked).as_secs());
        assert_eq!([None, Some(0), Some(1)].map(seconds), [(10, 90), (0, 0), (1, 90)]);
        assert_eq!([Some(59), Some(60), Some(61)].map(seconds), [(59, 90), (60, 90), (60, 90)]);
    }

    #[test]
    fn all_attempts_together_are_bounded() {
        let contract = |timeout_ms, max_attempts| Contract {
            timeout_ms,
            retry: Retry { max_attempts, first_pause_ms: 10, last_pause_ms: 100 },
            ..find("knowledge.search").unwrap().clone()
        };
        assert_eq!(contract(1_000, 1).total_time(None), Duration::from_secs(1));
        assert_eq!(contract(1_000, 3).total_time(None), Duration::from_millis(3_200));
        assert_eq!(contract(1_000, 3).total_time(Some(100)), Duration::from_millis(500));
        assert_eq!(contract(30_000, 3).total_time(None), LONGEST_TOTAL);
        assert_eq!(contract(90_000, 3).total_time(None), Duration::from_secs(90));
    }
}
