//! What the tools for vectors share: how vectors are compared, and the ways to compare all of a collection.

pub mod pgvector;
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

/// What is known of a collection.
#[derive(Debug)]
pub struct Collection {
    pub dimensions: usize,
    /// The schema of pgvector, quoted, where the database has it and the reader may use it.
    pub pgvector: Option<String>,
}

/// The collection of that name, if there is one. pgvector is looked for each time, which costs nothing beside the rest: so it may
/// come and go.
pub async fn collection(transaction: &mut TenantTx, name: &str) -> Result<Option<Collection>, ToolError> {
    let found: Option<(i32, Option<String>)> = sqlx::query_as(
        "select dimensions,
                (select quote_ident(nspname) from pg_extension join pg_namespace n on n.oid = extnamespace
                 where extname = 'vector' and has_schema_privilege(n.oid, 'usage'))
         from vector_collection where collection = $1",
    )
    .bind(name)
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(found.and_then(|(dimensions, pgvector)| Some(Collection { dimensions: usize::try_from(dimensions).ok()?, pgvector })))
}

pub fn must_fit(given: usize, defined: usize) -> Result<(), ToolError> {
    if given == defined {
        return Ok(());
    }
    Err(ToolError::InvalidArguments(format!("the collection's vectors have {defined} dimensions, and not {given}")))
}
