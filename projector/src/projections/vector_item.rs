//! The vectors that `vector.upsert` kept. The first outcome for a collection, in the tenant's order, gives the collection its
//! dimensions. The adapter refuses others by what it reads; where two first calls with different dimensions meet, neither sees the
//! other, and both succeed. Then the order decides here: the items of the later one are set aside whole, with a reason that an
//! operator finds in `parked_event`, and searches with its dimensions fail.

use sqlx::PgConnection;
use toolgate_events::tools::{VectorItem, VectorUpsertInput, VectorUpsertOutput};

use super::{Outcome, guarded, parked_event::Reasons};

pub const TOOL: &str = "vector.upsert";

/// The newest outcome for an item wins, whatever order they are projected in.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        let parts = outcome.parts::<VectorUpsertInput, VectorUpsertOutput>();
        // Checked again: two rows of one key in one statement would stop the batch.
        let checked = parts.and_then(|(input, _)| Ok((input.check()?, input)));
        let (dimensions, input) = match checked {
            Ok((dimensions, input)) => (i32::try_from(dimensions).unwrap_or(i32::MAX), input),
            Err(reason) => {
                parked.add(outcome.at, reason);
                continue;
            }
        };
        let defined = define_collection(transaction, outcome, parked, &input.collection, dimensions).await?;
        match defined {
            Some(defined) if defined == dimensions => items(transaction, outcome, parked, input, dimensions).await?,
            Some(defined) => parked.add(
                outcome.at,
                format!("vectors of {dimensions} dimensions do not belong to a collection of {defined} dimensions"),
            ),
            // Why there is none is on record already.
            None => {}
        }
    }
    Ok(())
}

/// The dimensions that the collection has from now on.
async fn define_collection(
    transaction: &mut PgConnection,
    outcome: &Outcome<'_>,
    parked: &mut Reasons,
    collection: &str,
    dimensions: i32,
) -> Result<Option<i32>, sqlx::Error> {
    let statement = sqlx::query(
        "insert into vector_collection (tenant_id, collection, dimensions, call_id, created_at, position)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
    )
    .bind(outcome.at.tenant_id.0)
    .bind(collection)
    .bind(dimensions)
    .bind(outcome.at.row.aggregate_id)
    .bind(outcome.at.occurred_at())
    .bind(outcome.position());
    guarded(transaction, outcome.at, parked, statement).await?;
    sqlx::query_scalar("select dimensions from vector_collection where tenant_id = $1 and collection = $2")
        .bind(outcome.at.tenant_id.0)
        .bind(collection)
        .fetch_optional(transaction)
        .await
}

/// All items of one call with one statement: their vectors travel as one array and are cut apart there.
async fn items(
    transaction: &mut PgConnection,
    outcome: &Outcome<'_>,
    parked: &mut Reasons,
    input: VectorUpsertInput,
    dimensions: i32,
) -> Result<(), sqlx::Error> {
    let (mut ids, mut numbers, mut metadata, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for VectorItem { id, vector, metadata: about, text } in input.items {
        ids.push(id);
        numbers.extend(vector);
        metadata.push(serde_json::Value::Object(about.unwrap_or_default()));
        texts.push(text);
    }
    let statement = sqlx::query(
        "insert into vector_item
             (tenant_id, collection, item_id, call_id, embedding, metadata, search_vector, updated_at, position)
         select $1, $2, id, $3, ($4::real[])[(n - 1) * $5 + 1 : n * $5], metadata, to_tsvector('simple', text), $6, $7
         from unnest($8::text[], $9::jsonb[], $10::text[]) with ordinality as item (id, metadata, text, n)
         on conflict (tenant_id, collection, item_id) do update
         set call_id = excluded.call_id, embedding = excluded.embedding, metadata = excluded.metadata,
             search_vector = excluded.search_vector, updated_at = excluded.updated_at, position = excluded.position
         where vector_item.position < excluded.position",
    )
    .bind(outcome.at.tenant_id.0)
    .bind(input.collection)
    .bind(outcome.at.row.aggregate_id)
    .bind(numbers)
    .bind(dimensions)
    .bind(outcome.at.occurred_at())
    .bind(outcome.position())
    .bind(ids)
    .bind(metadata)
    .bind(texts);
    guarded(transaction, outcome.at, parked, statement).await.map(drop)
}
