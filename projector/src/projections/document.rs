use sqlx::PgConnection;
use toolgate_events::tools::{DocumentRenderInput, DocumentRenderOutput};

use super::{Outcome, guarded, parked_event::Reasons, signed};

pub const TOOL: &str = "document.render";

/// What `document.render` made; the bytes are in the object store.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        let (input, output) = match outcome.parts::<DocumentRenderInput, DocumentRenderOutput>() {
            Ok(parts) => parts,
            Err(reason) => {
                parked.add(outcome.at, reason);
                continue;
            }
        };
        let statement = sqlx::query(
            "insert into document (tenant_id, artifact_id, call_id, title, content_type, size, sha256, created_at, position)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
        )
        .bind(outcome.at.tenant_id.0)
        .bind(output.artifact_id)
        .bind(outcome.at.row.aggregate_id)
        .bind(input.title)
        .bind(output.content_type)
        .bind(signed(output.size))
        .bind(output.sha256)
        .bind(outcome.at.occurred_at())
        .bind(outcome.position());
        guarded(transaction, outcome.at, parked, statement).await?;
    }
    Ok(())
}
