//! What was parked, once more: in another release, or after the database was told to take it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool};
use toolgate_store::{KeyError, Keyring, crash};
use uuid::Uuid;

use super::{
    Error, erasure, is_the_rows_fault, outcomes_of_tools,
    parked_event::{Call, Reasons},
    session, sums, tool_call,
};
use crate::{
    audit_row::{COLUMNS, TrailRow},
    batch::{self, Numbered},
    ownership,
};

/// A parked event.
#[derive(Clone, Debug, FromRow)]
pub struct Entry {
    pub tenant_id: Uuid,
    pub position: i64,
    pub stream_sequence: i64,
    pub aggregate_id: Uuid,
    pub event_type: String,
    pub event_version: i32,
    pub kind: String,
    pub reason: String,
    pub parked_at: DateTime<Utc>,
}

/// What became of a call's parked events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Projected now.
    pub projected: u64,
    /// Parked as before, or for another reason.
    pub still_parked: u64,
}

/// Projects the parked events of one call again, in their order, as far as that goes. All of it or nothing: the call's row is made anew
/// from all its audit rows, which is what it would be if nothing had ever been parked, and no checkpoint moves.
///
/// # Errors
/// [`Error`]; then nothing has changed.
pub async fn retry(database: &PgPool, keys: &Keyring, call: Call) -> Result<Retried, Error> {
    let mut transaction = database.begin().await?;
    // As every projector begins. During a switch to rebuilt tables this waits until the name stands for the new one.
    sqlx::query("lock table projection_checkpoint in row exclusive mode").execute(&mut *transaction).await?;
    // From here on the projector parks no event of the tenant, and takes none for free that waits.
    ownership::lock_parked(&mut transaction, call.0).await?;
    let parked: BTreeMap<u64, DateTime<Utc>> = parked_of(&mut transaction, call).await?;
    if parked.is_empty() {
        return Ok(Retried::default());
    }
    let counted = counted_up_to(&mut transaction, call).await?;
    let mut events = events_of(&mut transaction, keys, call).await?;
    let is_due = |event: &Numbered| parked.contains_key(&event.row.position);
    // As long as the first of them cannot be projected, nothing else can. An older release than the one that projected the others
    // changes nothing either.
    let first = events.iter().find(|event| is_due(event));
    let is_whole = events.first().is_some_and(|event| event.row.aggregate_sequence <= 1);
    // Rows that have left the table are missing: then `toolgate replay` is the way.
    if !is_whole
        || first.is_none_or(|event| event.event.is_err())
        || events.iter().any(|event| event.event.is_err() && !is_due(event))
    {
        return Ok(Retried { projected: 0, still_parked: parked.len() as u64 });
    }
    let mut reasons = Reasons::of(&events);
    reasons.take_care();
    reasons.hold_back(&mut events);
    let has_row = refold(&mut transaction, &mut events, &mut reasons).await?;
    if has_row {
        // What follows from an event that was projected when it came has followed already. Of an outcome that a tool's read model
        // refused, only that model is missing.
        let is_counted = |event: &Numbered| counted == Some(event.row.position);
        let before = session::call_of(events.iter().take_while(|event| !is_due(event) || is_counted(event)));
        let mut due: Vec<_> = events.extract_if(.., |event| is_due(event)).collect();
        outcomes_of_tools(&mut transaction, &due, keys, &mut reasons).await?;
        reasons.hold_back(&mut due);
        events.extend(due.extract_if(.., |event| is_counted(event)));
        sums(&mut transaction, &due, before).await?;
        erasure::project(&mut transaction, &due).await?;
        events.extend(due);
        events.sort_by_key(|event| event.row.position);
        reasons.hold_back(&mut events);
    }
    let (tenant, aggregate) = call;
    sqlx::query("delete from parked_event where tenant_id = $1 and aggregate_id = $2")
        .bind(tenant.0)
        .bind(aggregate)
        .execute(&mut *transaction)
        .await?;
    let projected = parked.keys().filter(|position| !reasons.holds(call.0, **position)).count() as u64;
    let still_parked = reasons.project_since(&mut transaction, &parked).await?;
    crash::point("parked.retried");
    transaction.commit().await?;
    Ok(Retried { projected, still_parked })
}

/// Makes the call's row of all events that are neither parked nor waiting; of as many of them as the database takes. False when there
/// is no request among them, and so no row.
async fn refold(transaction: &mut PgConnection, events: &mut [Numbered], reasons: &mut Reasons) -> Result<bool, sqlx::Error> {
    let understood = events.iter().take_while(|event| event.event.is_ok()).count();
    // All at once; where the database does not take that, one more each time until it is clear which one it refuses.
    let counts = std::iter::once(understood).chain(1..=understood);
    for (attempt, count) in counts.enumerate() {
        let mut savepoint = sqlx::Connection::begin(&mut *transaction).await?;
        match tool_call::refold(&mut savepoint, &events[..count]).await {
            Ok(()) => {
                savepoint.commit().await?;
                if attempt == 0 {
                    break;
                }
            }
            Err(sqlx::Error::Database(error)) if is_the_rows_fault(error.code().as_deref()) => {
                savepoint.rollback().await?;
                if attempt > 0 {
                    let refused = &mut events[count - 1];
                    reasons.add(refused, error.message().to_owned());
                    refused.event = Err(error.message().to_owned());
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    reasons.hold_back(events);
    Ok(understood > 0)
}

/// The position of the last event that the call's row is made of: it is in the sums, even if it is parked.
async fn counted_up_to(transaction: &mut PgConnection, (tenant, aggregate): Call) -> Result<Option<u64>, sqlx::Error> {
    let position: Option<i64> = sqlx::query_scalar("select position from tool_call where tenant_id = $1 and call_id = $2")
        .bind(tenant.0)
        .bind(aggregate)
        .fetch_optional(transaction)
        .await?;
    Ok(position.map(i64::unsigned_abs))
}

async fn parked_of(
    transaction: &mut PgConnection,
    (tenant, aggregate): Call,
) -> Result<BTreeMap<u64, DateTime<Utc>>, sqlx::Error> {
    let rows: Vec<(i64, DateTime<Utc>)> =
        sqlx::query_as("select position, parked_at from parked_event where tenant_id = $1 and aggregate_id = $2")
            .bind(tenant.0)
            .bind(aggregate)
            .fetch_all(transaction)
            .await?;
    Ok(rows.into_iter().map(|(position, parked_at)| (position.unsigned_abs(), parked_at)).collect())
}

/// Every event of a call as this release understands it, from its audit rows: the one place where stored events become events again.
async fn events_of(transaction: &mut PgConnection, keys: &Keyring, (tenant, aggregate): Call) -> Result<Vec<Numbered>, Error> {
    let select = format!("select {COLUMNS} from audit_event where tenant_id = $1 and aggregate_id = $2 order by position");
    let rows: Vec<TrailRow> = sqlx::query_as(&select).bind(tenant.0).bind(aggregate).fetch_all(transaction).await?;
    let mut events = Vec::with_capacity(rows.len());
    for TrailRow(row) in rows {
        let mut opened = row.clone();
        let event = match keys.open_row(tenant, &mut opened).await {
            Ok(()) => batch::understand(&row.event_type, row.event_version, &opened.data),
            Err(KeyError::Broken(reason)) => Err(reason),
            Err(error) => return Err(error.into()),
        };
        // No audit row is made of it again, so neither its text nor its trace is needed.
        events.push(Numbered { tenant_id: tenant, row, data: String::new(), traceparent: None, may_wait: false, event });
    }
    Ok(events)
}
