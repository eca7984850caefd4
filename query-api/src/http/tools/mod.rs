pub(super) mod get;
pub(super) mod list;

use serde_json::Value;
use toolgate_events::tools::Contract;
use toolgate_security::Principal;
use utoipa::ToSchema;

use crate::State;

/// A tool's contract.
// The domain's `Contract` knows nothing of OpenAPI.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = Tool)]
pub(super) struct ToolSchema {
    #[schema(example = "knowledge.search")]
    name: String,
    version: u32,
    description: String,
    /// What a caller must be allowed.
    #[schema(example = "tool.knowledge.search:invoke")]
    permission: String,
    side_effects: SideEffectsSchema,
    /// The bulkhead its calls wait and run in.
    lane: String,
    /// How long one attempt may run, in milliseconds.
    timeout_ms: u32,
    retry: RetrySchema,
    /// Absent where every call is run.
    cache: Option<CacheSchema>,
    /// Whether `options.locale` makes a difference.
    localized: bool,
    /// JSON Schema 2020-12.
    #[schema(value_type = Object)]
    input_schema: Value,
    /// JSON Schema 2020-12.
    #[schema(value_type = Object)]
    output_schema: Value,
    /// Arguments that the input schema accepts.
    examples: Vec<Value>,
}

/// What running a tool does to the world.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = SideEffects, rename_all = "snake_case")]
enum SideEffectsSchema {
    ReadOnly,
    Idempotent,
    Effectful,
}

/// How often a call may be run.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = Retry)]
struct RetrySchema {
    max_attempts: u32,
    /// The first bound of the random pause before the next attempt, in milliseconds; it doubles.
    first_pause_ms: u32,
    /// The last bound, in milliseconds.
    last_pause_ms: u32,
}

/// When an earlier result of the tenant may be the answer. All times are in seconds.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = Cache)]
struct CacheSchema {
    /// How old it may be when the caller names no `freshness_seconds`; 0: only a caller who names one gets it.
    default_freshness_seconds: u32,
    /// How old it may be, whatever the caller allows.
    max_freshness_seconds: u32,
    /// How old it may be when the other side is down, marked as stale; 0: never.
    stale_seconds: u32,
}

fn may_invoke(state: &State, principal: &Principal, contract: &Contract) -> bool {
    state.guard.allows(principal, &contract.permission)
}
