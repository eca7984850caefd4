use sqlx::PgConnection;
use toolgate_events::tools::{TaskCreateInput, TaskCreateOutput};

use super::{Outcome, guarded, parked_event::Reasons};

pub const TOOL: &str = "task.create";

/// The tasks that `task.create` made: each exists because its outcome does.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        let (input, output) = match outcome.parts::<TaskCreateInput, TaskCreateOutput>() {
            Ok(parts) => parts,
            Err(reason) => {
                parked.add(outcome.at, reason);
                continue;
            }
        };
        let statement = sqlx::query(
            "insert into task (tenant_id, task_id, call_id, title, description, assignee, due, labels, created_at, position)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing",
        )
        .bind(outcome.at.tenant_id.0)
        .bind(output.task_id)
        .bind(outcome.at.row.aggregate_id)
        .bind(input.title)
        .bind(input.description)
        .bind(input.assignee)
        .bind(input.due)
        .bind(input.labels.unwrap_or_default())
        .bind(outcome.at.occurred_at())
        .bind(outcome.position());
        guarded(transaction, outcome.at, parked, statement).await?;
    }
    Ok(())
}
