//! What each tenant used of each tool on each day, as sums. As with sessions, each event adds what it says once: it got its position
//! once (`batch::number`), and the sums commit with its audit row.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use sqlx::PgConnection;
use toolgate_events::Usage;
use uuid::Uuid;

use super::signed;
use crate::batch::Numbered;

/// Tenant, day and tool.
type Key<'a> = (Uuid, NaiveDate, &'a str);

/// What a batch adds, and from which positions.
#[derive(Default)]
struct Sum {
    first_position: u64,
    position: u64,
    usage: Usage,
}

/// Adds a batch. What is no part of its call yet counts when it is, and always on the day on which it occurred (UTC).
pub async fn project(transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    let mut sums: BTreeMap<Key<'_>, Sum> = BTreeMap::new();
    for at in events {
        let Ok(event) = &at.event else { continue };
        let Some((tool, usage)) = Usage::of(&at.row, event) else { continue };
        let sum = sums.entry((at.tenant_id.0, at.occurred_at().date_naive(), tool.unwrap_or_default())).or_default();
        // Positions rise within a batch.
        if sum.first_position == 0 {
            sum.first_position = at.row.position;
        }
        sum.position = at.row.position;
        sum.usage.merge(&usage);
    }
    if sums.is_empty() { Ok(()) } else { add(transaction, &sums).await }
}

async fn add(transaction: &mut PgConnection, sums: &BTreeMap<Key<'_>, Sum>) -> Result<(), sqlx::Error> {
    macro_rules! column {
        ($value:expr) => {
            sums.iter().map($value).collect::<Vec<_>>()
        };
    }
    macro_rules! count {
        ($member:ident) => {
            column!(|(_, sum)| signed(sum.usage.$member))
        };
    }
    // Arrays of different lengths are no array of PostgreSQL's: they travel as text.
    let latency = |sum: &Sum| {
        let counts: Vec<_> = sum.usage.latency.counts().iter().map(u64::to_string).collect();
        format!("{{{}}}", counts.join(","))
    };
    sqlx::query(
        "insert into usage_day as u (tenant_id, day, tool, first_position, position, requested, succeeded, failed, cancelled, cached,
             attempts, retries, denied, rate_limited, bytes_in, bytes_out, duration_ms, latency)
         select a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r::bigint[]
         from unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
             $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
             $17::bigint[], $18::text[]) as n (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r)
         on conflict (tenant_id, day, tool) do update set
             first_position = least(u.first_position, excluded.first_position),
             position = greatest(u.position, excluded.position),
             requested = u.requested + excluded.requested, succeeded = u.succeeded + excluded.succeeded,
             failed = u.failed + excluded.failed, cancelled = u.cancelled + excluded.cancelled, cached = u.cached + excluded.cached,
             attempts = u.attempts + excluded.attempts, retries = u.retries + excluded.retries,
             denied = u.denied + excluded.denied, rate_limited = u.rate_limited + excluded.rate_limited,
             bytes_in = u.bytes_in + excluded.bytes_in, bytes_out = u.bytes_out + excluded.bytes_out,
             duration_ms = u.duration_ms + excluded.duration_ms,
             latency = array(
                 select coalesce(here, 0) + coalesce(more, 0)
                 from unnest(u.latency, excluded.latency) with ordinality as l (here, more, bucket) order by bucket)",
    )
    .bind(column!(|((tenant, _, _), _)| *tenant))
    .bind(column!(|((_, day, _), _)| *day))
    .bind(column!(|((_, _, tool), _)| *tool))
    .bind(column!(|(_, sum)| signed(sum.first_position)))
    .bind(column!(|(_, sum)| signed(sum.position)))
    .bind(count!(requested))
    .bind(count!(succeeded))
    .bind(count!(failed))
    .bind(count!(cancelled))
    .bind(count!(cached))
    .bind(count!(attempts))
    .bind(count!(retries))
    .bind(count!(denied))
    .bind(count!(rate_limited))
    .bind(count!(bytes_in))
    .bind(count!(bytes_out))
    .bind(count!(duration_ms))
    .bind(column!(|(_, sum)| latency(sum)))
    .execute(transaction)
    .await?;
    Ok(())
}
