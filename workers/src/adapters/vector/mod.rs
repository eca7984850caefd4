//! What the tools for vectors share: how vectors are compared, and the ways to compare all of a collection.

mod rank;
pub mod scan;

use serde_json::Value;
use toolgate_events::tools::VectorMetric;
use toolgate_security::TenantTx;

pub use self::rank::{Ranked, fuse};
use super::ToolError;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Question {
    pub collection: String,
    pub vector: Vec<f32>,
    pub metric: VectorMetric,
    pub filter: Option<Value>,
    /// How many places of the ranking are wanted.
    pub depth: usize,
    /// How many items may be compared. One more tells that there are too many.
    pub most: usize,
}

/// The dimensions of a collection, if there is one.
pub async fn dimensions(transaction: &mut TenantTx, collection: &str) -> Result<Option<usize>, ToolError> {
    let dimensions: Option<i32> = sqlx::query_scalar("select dimensions from vector_collection where collection = $1")
        .bind(collection)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(dimensions.and_then(|dimensions| usize::try_from(dimensions).ok()))
}

pub fn must_fit(given: usize, defined: usize) -> Result<(), ToolError> {
    if given == defined {
        return Ok(());
    }
    Err(ToolError::InvalidArguments(format!("the collection's vectors have {defined} dimensions, and not {given}")))
}
