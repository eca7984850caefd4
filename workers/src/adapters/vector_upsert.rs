use serde_json::Value;
use toolgate_events::tools::{VectorUpsertInput, VectorUpsertOutput};
use toolgate_security::TenantTx;

use super::{Call, ToolError, answer, vector};
use crate::Environment;

/// The items are a projection of this outcome. Dimensions are compared with what is projected; where two calls make a collection at
/// the same time, the projection decides.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: VectorUpsertInput = call.arguments()?;
    let dimensions = input.check().map_err(ToolError::InvalidArguments)?;
    let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
    let defined = vector::collection(&mut transaction, &input.collection).await?;
    drop(transaction);
    if let Some(defined) = defined {
        vector::must_fit(dimensions, defined.dimensions)?;
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    answer(&VectorUpsertOutput {
        dimensions: count(dimensions),
        upserted: count(input.items.len()),
        collection: input.collection,
    })
}
