//! The versions of a template are numbered here, in the order of the tenant's positions: 1, 2, 3 and so on, without gaps.
//!
//! A worker could not number them. It sees what is projected, not what is on its way, and two of them would give the same number
//! away; a counter beside the log would leave a gap behind whenever a worker died between number and outcome. An outcome that is in
//! the log is projected in any case, and a tenant's outcomes by one projector after another, each version in one transaction with
//! the checkpoint: after a crash the next one goes on from what is committed. Projected again from the beginning, the same outcomes
//! get the same numbers.

use sqlx::PgConnection;
use toolgate_events::tools::{TemplateUpsertInput, TemplateUpsertOutput};

use super::{Outcome, guarded, parked_event::Reasons};

pub const TOOL: &str = "template.upsert";

/// The templates that `template.upsert` kept. What says the same as the version before it makes none.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        let (input, output) = match outcome.parts::<TemplateUpsertInput, TemplateUpsertOutput>() {
            Ok(parts) => parts,
            Err(reason) => {
                parked.add(outcome.at, reason);
                continue;
            }
        };
        // An outcome that is not newer than the last version has had its turn.
        let statement = sqlx::query(
            "with last as (
                 select version, markdown, description, position from template_version
                 where tenant_id = $1 and template_id = $2 order by version desc limit 1
             )
             insert into template_version
                 (tenant_id, template_id, version, call_id, markdown, description, sha256, created_at, position)
             select $1, $2, coalesce((select version from last), 0) + 1, $3, $4, $5, $6, $7, $8
             where not exists (
                 select from last
                 where position >= $8 or (markdown = $4 and description is not distinct from $5)
             )",
        )
        .bind(outcome.at.tenant_id.0)
        .bind(input.template_id)
        .bind(outcome.at.row.aggregate_id)
        .bind(input.markdown)
        .bind(input.description)
        .bind(output.sha256)
        .bind(outcome.at.occurred_at())
        .bind(outcome.position());
        guarded(transaction, outcome.at, parked, statement).await?;
    }
    Ok(())
}
