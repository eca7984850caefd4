use sqlx::PgConnection;

use super::signed;
use crate::batch::Numbered;

/// Every event, one row each. A position that is taken is an error: the trail must never quietly leave a row out.
pub async fn project(transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    macro_rules! column {
        ($value:expr) => {
            events.iter().map($value).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "insert into audit_event (tenant_id, position, stream_sequence, event_id, event_type, event_version, aggregate_type,
             aggregate_id, aggregate_sequence, actor, occurred_at, correlation_id, causation_id, data, traceparent, prev_hash, hash)
         select a, b, c, d, e, f, g, h, i, j, k, l, m, n::json, o, p, q
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::int[], $7::text[], $8::uuid[],
             $9::bigint[], $10::text[], $11::timestamptz[], $12::uuid[], $13::uuid[], $14::text[], $15::text[], $16::text[],
             $17::text[]) as n (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q)",
    )
    .bind(column!(|event| event.tenant_id.0))
    .bind(column!(|event| signed(event.row.position)))
    .bind(column!(|event| signed(event.row.stream_sequence)))
    .bind(column!(|event| event.row.event_id))
    .bind(column!(|event| event.row.event_type.as_str()))
    .bind(column!(|event| i32::try_from(event.row.event_version).unwrap_or(i32::MAX)))
    .bind(column!(|event| event.row.aggregate_type.as_str()))
    .bind(column!(|event| event.row.aggregate_id))
    .bind(column!(|event| signed(event.row.aggregate_sequence)))
    .bind(column!(|event| event.row.actor.as_str()))
    .bind(column!(|event| event.row.occurred_at))
    .bind(column!(|event| event.row.correlation_id))
    .bind(column!(|event| event.row.causation_id))
    .bind(column!(|event| event.data.as_str()))
    .bind(column!(|event| event.traceparent.as_deref()))
    .bind(column!(|event| event.row.prev_hash.as_str()))
    .bind(column!(|event| event.row.hash.as_str()))
    .execute(transaction)
    .await?;
    Ok(())
}
