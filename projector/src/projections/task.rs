use sqlx::PgConnection;
use toolgate_events::tools::{TaskCreateInput, TaskCreateOutput, TaskUpdateInput, TaskUpdateOutput};

use super::{Outcome, guarded, parked_event::Reasons, write};

pub const CREATE: &str = "task.create";
pub const UPDATE: &str = "task.update";

/// The tasks: each exists because an outcome of `task.create` does, and is what its latest `task.update` left.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    // In order: a change may follow what it changes within one batch. What was created in between is written with one statement.
    let mut created = Vec::new();
    for outcome in outcomes {
        match outcome.succeeded.tool.as_str() {
            CREATE => match outcome.parts::<TaskCreateInput, TaskCreateOutput>() {
                Ok((input, output)) => created.push(Created { outcome, input, output }),
                Err(reason) => parked.add(outcome.at, reason),
            },
            UPDATE => {
                create(transaction, &std::mem::take(&mut created), parked).await?;
                update(transaction, outcome, parked).await?;
            }
            _ => {}
        }
    }
    create(transaction, &created, parked).await
}

struct Created<'a> {
    outcome: &'a Outcome<'a>,
    input: TaskCreateInput,
    output: TaskCreateOutput,
}

async fn create(transaction: &mut PgConnection, created: &[Created<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    let statement = |tasks: &[Created<'_>]| {
        macro_rules! column {
            ($value:expr) => {
                tasks.iter().map($value).collect::<Vec<_>>()
            };
        }
        let labels = |task: &Created<'_>| serde_json::json!(task.input.labels.as_deref().unwrap_or_default());
        sqlx::query(
            "insert into task (tenant_id, task_id, call_id, title, description, assignee, due, labels, created_at, position)
             select a, b, c, d, e, f, g, array(select label from jsonb_array_elements_text(h) with ordinality l (label, n) order by n),
                 i, j
             from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::jsonb[],
                 $9::timestamptz[], $10::bigint[]) as n (a, b, c, d, e, f, g, h, i, j)
             on conflict do nothing",
        )
        .bind(column!(|task| task.outcome.at.tenant_id.0))
        .bind(column!(|task| task.output.task_id))
        .bind(column!(|task| task.outcome.at.row.aggregate_id))
        .bind(column!(|task| task.input.title.clone()))
        .bind(column!(|task| task.input.description.clone()))
        .bind(column!(|task| task.input.assignee.clone()))
        .bind(column!(|task| task.input.due))
        .bind(column!(labels))
        .bind(column!(|task| task.outcome.at.occurred_at()))
        .bind(column!(|task| task.outcome.position()))
    };
    write(transaction, parked, created, |task| task.outcome.at, statement).await
}

/// The outcome applies to the version that it was decided against. Calls wait for each other, so there is no other; one that
/// somebody else appended to the log changes nothing and is set aside.
async fn update(transaction: &mut PgConnection, outcome: &Outcome<'_>, parked: &mut Reasons) -> Result<(), sqlx::Error> {
    let (input, output) = match outcome.parts::<TaskUpdateInput, TaskUpdateOutput>() {
        Ok(parts) => parts,
        Err(reason) => {
            parked.add(outcome.at, reason);
            return Ok(());
        }
    };
    let statement = sqlx::query(
        "with changed as (
             update task set title = $3, description = $4, assignee = $5, due = $6, labels = $7, status = $8, version = $9,
                 updated_at = $10, updated_position = $11
             where tenant_id = $1 and task_id = $2 and version = $9 - 1
             returning tenant_id, task_id, status, version
         )
         insert into task_change (tenant_id, task_id, version, call_id, previous_status, status, comment, changed_at, position)
         select tenant_id, task_id, version, $12, $13, status, $14, $10, $11 from changed",
    )
    .bind(outcome.at.tenant_id.0)
    .bind(output.task_id)
    .bind(output.task.title)
    .bind(output.task.description)
    .bind(output.task.assignee)
    .bind(output.task.due)
    .bind(output.task.labels)
    .bind(output.task.status.as_str())
    .bind(i32::try_from(output.task.version).unwrap_or(i32::MAX))
    .bind(outcome.at.occurred_at())
    .bind(outcome.position())
    .bind(outcome.at.row.aggregate_id)
    .bind(output.previous_status.as_str())
    .bind(input.comment);
    if guarded(transaction, outcome.at, parked, statement).await? == Some(0) {
        parked.add(outcome.at, format!("the task is not at the version before {}", output.task.version));
    }
    Ok(())
}
