//! Compares in the database. There is no index, so every item is compared here as well. The operators are not leakproof, so
//! row-level security has chosen the tenant's rows before any of them is asked.

use toolgate_events::tools::VectorMetric;
use toolgate_security::TenantTx;

use super::{Question, Ranked};
use crate::adapters::ToolError;

/// The first places, and how many items were compared. `schema` is pgvector's, quoted.
pub async fn rank(transaction: &mut TenantTx, question: &Question, schema: &str) -> Result<(Vec<Ranked>, usize), ToolError> {
    let (operator, score) = match question.metric {
        VectorMetric::Cosine => ("<=>", "1 - distance"),
        VectorMetric::Dot => ("<#>", "-distance"),
    };
    // The question is made a vector once, and not for every row.
    let statement = format!(
        r#"with compared as materialized (
               select item_id, embedding::{schema}.vector operator({schema}.{operator}) (select $1::real[]::{schema}.vector) as distance
               from (select item_id, embedding from vector_item
                     where collection = $2 and ($3::jsonb is null or metadata @> $3) limit $4) item)
           select item_id, ({score})::float8, (select count(*) from compared)
           from compared order by distance, item_id collate "C" limit $5"#
    );
    let rows: Vec<(String, f64, i64)> = sqlx::query_as(&statement)
        .bind(&question.vector)
        .bind(&question.collection)
        .bind(&question.filter)
        .bind(i64::try_from(question.most).unwrap_or(i64::MAX).saturating_add(1))
        .bind(i64::try_from(question.depth).unwrap_or(i64::MAX))
        .fetch_all(&mut **transaction)
        .await?;
    let scanned = rows.first().map_or(0, |(.., count)| usize::try_from(*count).unwrap_or(0));
    Ok((rows.into_iter().map(|(id, score, _)| Ranked { id, score }).collect(), scanned))
}
