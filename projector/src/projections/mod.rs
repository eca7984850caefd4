//! One file per read model. Each writes its rows for a whole batch with one statement a kind, and each row is guarded by its
//! position, so that projecting an event again changes nothing.

mod audit_event;
mod document;
mod erasure;
mod knowledge_document;
mod parked_event;
mod retry;
mod session;
mod task;
mod template_version;
mod tool_call;
mod usage_day;
mod vector_item;

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use toolgate_events::{
    CallId, Event, TenantId, ToolCallEvent, ToolCallSucceeded,
    sealing::{Member, Opened},
};
use toolgate_store::{KeyError, Keyring};

use crate::batch::Numbered;
pub use parked_event::Kind;
pub use retry::{Entry, Retried, retry};

/// Why a batch was not written. The transaction must then be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Writes everything that follows from `events`, and answers with how many of them were set aside. What has to wait for a parked event
/// of its call is marked as such in them. What comes out is the same however the events are cut into batches.
///
/// # Errors
/// [`Error`]
pub async fn project(transaction: &mut PgConnection, events: &mut [Numbered], keys: &Keyring) -> Result<u64, Error> {
    audit_event::project(transaction, events).await?;
    erasure::lock(transaction, events).await?;
    let mut parked = 0;
    // An erasure deletes what is there at its place in the log: what follows it is written after it.
    for stretch in events.split_inclusive_mut(erasure::is_one) {
        if parked > 0 {
            stretch.iter_mut().for_each(|event| event.may_wait = true);
        }
        parked += follow(transaction, stretch, keys).await?;
    }
    Ok(parked)
}

/// What follows from a stretch of a batch, in which nothing comes after an erasure.
async fn follow(transaction: &mut PgConnection, events: &mut [Numbered], keys: &Keyring) -> Result<u64, Error> {
    let mut parked = parked_event::Reasons::of(events);
    parked.look_up(transaction, events).await?;
    parked.hold_back(events);
    let calls = session::calls(transaction, events).await?;
    let mut savepoint = sqlx::Connection::begin(&mut *transaction).await?;
    match read_models(&mut savepoint, events, keys, &mut parked).await {
        Ok(()) => savepoint.commit().await?,
        Err(Error::Database(sqlx::Error::Database(error))) if is_the_rows_fault(error.code().as_deref()) => {
            savepoint.rollback().await?;
            // Some row cannot be held. Which one shows when each is tried alone.
            parked.take_care();
            read_models(transaction, events, keys, &mut parked).await?;
        }
        Err(error) => return Err(error),
    }
    // Whatever followed a refused event in the same batch waits as it would in the next one.
    parked.hold_back(events);
    sums(transaction, events, calls).await?;
    let parked = parked.project(transaction).await?;
    erasure::project(transaction, events).await?;
    Ok(parked)
}

/// How rows are written that the database may not be able to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Care {
    /// Many with one statement; one that cannot be held fails all.
    #[default]
    Together,
    /// One after another; one that cannot be held is set aside.
    Singly,
}

async fn read_models(
    transaction: &mut PgConnection,
    events: &mut [Numbered],
    keys: &Keyring,
    parked: &mut parked_event::Reasons,
) -> Result<(), Error> {
    tool_calls(transaction, events, parked).await?;
    outcomes_of_tools(transaction, events, keys, parked).await
}

/// The sums, last of all: of what its call was made of. What is not understood, or waits, adds nothing until it is projected after all.
/// An outcome that a tool's read model refused is its call's outcome all the same, and counts: a sum must not depend on content, which
/// may be erased.
async fn sums(transaction: &mut PgConnection, events: &[Numbered], calls: session::Calls) -> Result<(), sqlx::Error> {
    session::project(transaction, events, calls).await?;
    usage_day::project(transaction, events).await
}

/// The tools' read models.
async fn outcomes_of_tools(
    transaction: &mut PgConnection,
    events: &[Numbered],
    keys: &Keyring,
    parked: &mut parked_event::Reasons,
) -> Result<(), Error> {
    let erased = erasure::Erased::load(transaction, events).await?;
    let outcomes = outcomes(transaction, events, &erased, keys, parked).await?;
    task::project(transaction, &outcomes, parked).await?;
    document::project(transaction, &outcomes, parked).await?;
    knowledge_document::project(transaction, &outcomes, parked).await?;
    vector_item::project(transaction, &outcomes, parked).await?;
    template_version::project(transaction, &outcomes, parked).await?;
    Ok(())
}

/// A successful outcome together with what was asked: what the tools' read models are made from.
struct Outcome<'a> {
    at: &'a Numbered,
    succeeded: &'a ToolCallSucceeded,
    arguments: Value,
}

impl Outcome<'_> {
    /// The call's arguments and result, as the contract's types.
    fn parts<I: DeserializeOwned, O: DeserializeOwned>(&self) -> Result<(I, O), String> {
        let input = I::deserialize(&self.arguments).map_err(|error| format!("arguments: {error}"))?;
        let output = O::deserialize(&self.succeeded.result).map_err(|error| format!("result: {error}"))?;
        Ok((input, output))
    }

    fn position(&self) -> i64 {
        signed(self.at.row.position)
    }
}

/// The calls of a whole batch at once, or event by event.
async fn tool_calls(
    transaction: &mut PgConnection,
    events: &mut [Numbered],
    parked: &mut parked_event::Reasons,
) -> Result<(), sqlx::Error> {
    if parked.care() == Care::Together {
        return tool_call::project(transaction, events).await;
    }
    for index in 0..events.len() {
        let event = &mut events[index..=index];
        // It may have to wait for the one that was set aside just now.
        parked.hold_back(event);
        let mut savepoint = sqlx::Connection::begin(&mut *transaction).await?;
        match tool_call::project(&mut savepoint, event).await {
            Ok(()) => savepoint.commit().await?,
            Err(sqlx::Error::Database(error)) if is_the_rows_fault(error.code().as_deref()) => {
                savepoint.rollback().await?;
                parked.add(&event[0], error.message().to_owned());
                event[0].event = Err(error.message().to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes `rows`, which belong to as many events, in their order: with one statement, or with one for each, so that a row the database
/// cannot hold is set aside instead of stopping the batch for ever.
async fn write<'r, R>(
    transaction: &mut PgConnection,
    parked: &mut parked_event::Reasons,
    rows: &'r [R],
    at: impl Fn(&'r R) -> &'r Numbered,
    statement: impl Fn(&'r [R]) -> Statement<'r>,
) -> Result<(), sqlx::Error> {
    if parked.care() == Care::Together {
        if !rows.is_empty() {
            statement(rows).execute(transaction).await?;
        }
        return Ok(());
    }
    for row in rows {
        guarded(transaction, at(row), parked, statement(std::slice::from_ref(row))).await?;
    }
    Ok(())
}

type Statement<'r> = sqlx::query::Query<'r, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Runs one row's statement; answers with the number of rows, `None` when it was set aside.
async fn guarded(
    transaction: &mut PgConnection,
    at: &Numbered,
    parked: &mut parked_event::Reasons,
    statement: Statement<'_>,
) -> Result<Option<u64>, sqlx::Error> {
    if parked.care() == Care::Together {
        return Ok(Some(statement.execute(transaction).await?.rows_affected()));
    }
    let mut savepoint = sqlx::Connection::begin(transaction).await?;
    match statement.execute(&mut *savepoint).await {
        Ok(done) => {
            savepoint.commit().await?;
            Ok(Some(done.rows_affected()))
        }
        Err(sqlx::Error::Database(error)) if is_the_rows_fault(error.code().as_deref()) => {
            savepoint.rollback().await?;
            parked.add(at, error.message().to_owned());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Data exceptions, integrity violations and program limits: classes 22, 23 and 54 of PostgreSQL's error codes.
fn is_the_rows_fault(code: Option<&str>) -> bool {
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// The outcomes that feed a read model, each with the arguments of its call as they were said. What has been erased feeds none. Only the
/// one that ended its call counts: a second one, which somebody else must have appended, changes nothing.
async fn outcomes<'a>(
    transaction: &mut PgConnection,
    events: &'a [Numbered],
    erased: &erasure::Erased,
    keys: &Keyring,
    parked: &mut parked_event::Reasons,
) -> Result<Vec<Outcome<'a>>, Error> {
    let feeding: Vec<_> = events
        .iter()
        .filter_map(|at| match &at.event {
            Ok(Event::ToolCall(ToolCallEvent::ToolCallSucceeded(succeeded)))
                if feeds_a_read_model(&succeeded.tool)
                    && !succeeded.erased
                    && !erased.covers(at.tenant_id, succeeded.data_subject.as_deref()) =>
            {
                Some((at, succeeded))
            }
            _ => None,
        })
        .collect();
    if feeding.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<_> = feeding.iter().map(|(at, _)| at.tenant_id.0).collect();
    let calls: Vec<_> = feeding.iter().map(|(at, _)| at.row.aggregate_id).collect();
    let rows: Vec<(uuid::Uuid, uuid::Uuid, Value, i64)> = sqlx::query_as(
        "select tenant_id, call_id, arguments, position from tool_call
         where (tenant_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))",
    )
    .bind(tenants)
    .bind(calls)
    .fetch_all(transaction)
    .await?;
    let mut arguments: HashMap<_, _> = rows
        .into_iter()
        .map(|(tenant, call, arguments, position)| ((TenantId(tenant), CallId(call), position), arguments))
        .collect();
    let mut outcomes = Vec::with_capacity(feeding.len());
    for (at, succeeded) in feeding {
        let Some(sealed) = arguments.remove(&(at.tenant_id, at.call_id(), signed(at.row.position))) else { continue };
        match keys.open_member(at.tenant_id, at.call_id(), Member::Arguments, sealed).await {
            Ok(Opened::Content(arguments)) => outcomes.push(Outcome { at, succeeded, arguments }),
            Ok(Opened::Erased) => {}
            Err(KeyError::Broken(reason)) => parked.add(at, reason),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(outcomes)
}

fn feeds_a_read_model(tool: &str) -> bool {
    let feeding =
        [task::CREATE, task::UPDATE, document::TOOL, knowledge_document::TOOL, template_version::TOOL, vector_item::TOOL];
    feeding.contains(&tool)
}

/// PostgreSQL has no unsigned integers; nothing here comes near the difference.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
