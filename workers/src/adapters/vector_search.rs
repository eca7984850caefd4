use std::collections::HashMap;

use serde_json::{Map, Value};
use toolgate_events::tools::{VectorHit, VectorSearchInput, VectorSearchOutput, check_vector};
use toolgate_security::TenantTx;

use super::{
    Call, ToolError, answer,
    vector::{self, Collection, Question, Ranked, fuse, pgvector, scan},
};
use crate::Environment;

/// The places of each ranking that count when two are fused.
const FUSED_DEPTH: usize = 200;

pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: VectorSearchInput = call.arguments()?;
    check_vector(&input.vector).map_err(|problem| ToolError::InvalidArguments(format!("the vector {problem}")))?;
    let top_k = usize::try_from(input.top_k).unwrap_or(usize::MAX);
    let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
    let found = vector::collection(&mut transaction, &input.collection).await?;
    let Collection { dimensions, pgvector } = found.ok_or(ToolError::NotFound("there is no such collection"))?;
    vector::must_fit(input.vector.len(), dimensions)?;
    let question = Question {
        collection: input.collection,
        vector: input.vector,
        metric: input.metric,
        filter: input.filter.map(Value::Object),
        depth: if input.text.is_some() { FUSED_DEPTH } else { top_k },
        most: environment.vector_max_components / dimensions,
    };
    let (mut ranked, scanned) = match pgvector {
        Some(schema) => pgvector::rank(&mut transaction, &question, &schema).await?,
        None => scan::rank(&mut transaction, &question).await?,
    };
    if scanned > question.most {
        let detail = format!("more than {} vectors would have to be compared: narrow the search with a filter", question.most);
        return Err(ToolError::InvalidArguments(detail));
    }
    if let Some(text) = input.text {
        let by_text = rank_by_text(&mut transaction, &question, &text).await?;
        ranked = fuse(&ranked, &by_text);
    }
    ranked.truncate(top_k);
    let hits = with_metadata(&mut transaction, &question.collection, ranked).await?;
    drop(transaction);
    answer(&VectorSearchOutput { hits, exact: true, scanned: u64::try_from(scanned).unwrap_or(u64::MAX) })
}

async fn rank_by_text(transaction: &mut TenantTx, question: &Question, text: &str) -> Result<Vec<Ranked>, ToolError> {
    let rows: Vec<(String, f64)> = sqlx::query_as(
        r#"select item_id, ts_rank_cd(search_vector, words)::float8 as score
           from vector_item, websearch_to_tsquery('simple', $1) as words
           where collection = $2 and search_vector @@ words and ($3::jsonb is null or metadata @> $3)
           order by score desc, item_id collate "C" limit $4"#,
    )
    .bind(text)
    .bind(&question.collection)
    .bind(&question.filter)
    .bind(i64::try_from(question.depth).unwrap_or(i64::MAX))
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows.into_iter().map(|(id, score)| Ranked { id, score }).collect())
}

/// An item that is replaced meanwhile has the newer metadata; none is ever gone.
async fn with_metadata(transaction: &mut TenantTx, collection: &str, ranked: Vec<Ranked>) -> Result<Vec<VectorHit>, ToolError> {
    let ids: Vec<_> = ranked.iter().map(|hit| hit.id.as_str()).collect();
    let rows: Vec<(String, sqlx::types::Json<Map<String, Value>>)> =
        sqlx::query_as("select item_id, metadata from vector_item where collection = $1 and item_id = any($2)")
            .bind(collection)
            .bind(ids)
            .fetch_all(&mut **transaction)
            .await?;
    let mut metadata: HashMap<_, _> = rows.into_iter().map(|(id, metadata)| (id, metadata.0)).collect();
    let hit = |Ranked { id, score }| VectorHit { metadata: metadata.remove(&id).unwrap_or_default(), id, score };
    Ok(ranked.into_iter().map(hit).collect())
}
