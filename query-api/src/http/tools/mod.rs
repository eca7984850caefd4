pub(super) mod get;
pub(super) mod list;

use serde_json::Value;
use toolgate_events::tools::Contract;
use toolgate_security::Principal;
use utoipa::ToSchema;

use crate::State;

/// [`Contract`], which knows nothing of OpenAPI, described.
#[expect(dead_code, reason = "only its schema is used")]
#[derive(ToSchema)]
#[schema(as = Tool)]
pub(super) struct ToolSchema {
    #[schema(example = "knowledge.search")]
    name: String,
    version: u32,
    description: String,
    side_effects: SideEffectsSchema,
    /// The bulkhead its calls wait and run in.
    lane: String,
    /// How long one attempt may run, in milliseconds.
    timeout_ms: u32,
    max_attempts: u32,
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

fn may_invoke(state: &State, principal: &Principal, contract: &Contract) -> bool {
    state.guard.allows(principal, &format!("tool.{}:invoke", contract.name))
}
