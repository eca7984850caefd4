use sqlx::PgConnection;
use toolgate_events::tools::{DocumentRenderInput, DocumentRenderOutput};

use super::{Outcome, parked_event::Reasons, signed, write};

pub const TOOL: &str = "document.render";

/// What `document.render` made; the bytes are in the object store.
pub async fn project(transaction: &mut PgConnection, outcomes: &[Outcome<'_>], parked: &mut Reasons) -> Result<(), sqlx::Error> {
    let mut rendered = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.succeeded.tool == TOOL) {
        match outcome.parts::<DocumentRenderInput, DocumentRenderOutput>() {
            Ok((input, output)) => rendered.push((outcome, input, output)),
            Err(reason) => parked.add(outcome.at, reason),
        }
    }
    let statement = |documents: &[(&Outcome<'_>, DocumentRenderInput, DocumentRenderOutput)]| {
        macro_rules! column {
            ($value:expr) => {
                documents.iter().map($value).collect::<Vec<_>>()
            };
        }
        sqlx::query(
            "insert into document (tenant_id, artifact_id, call_id, title, content_type, size, sha256, created_at, position)
             select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                 $8::timestamptz[], $9::bigint[])
             on conflict do nothing",
        )
        .bind(column!(|(outcome, _, _)| outcome.at.tenant_id.0))
        .bind(column!(|(_, _, output)| output.artifact_id))
        .bind(column!(|(outcome, _, _)| outcome.at.row.aggregate_id))
        .bind(column!(|(_, input, _)| input.title.clone()))
        .bind(column!(|(_, _, output)| output.content_type.clone()))
        .bind(column!(|(_, _, output)| signed(output.size)))
        .bind(column!(|(_, _, output)| output.sha256.clone()))
        .bind(column!(|(outcome, _, _)| outcome.at.occurred_at()))
        .bind(column!(|(outcome, _, _)| outcome.position()))
    };
    write(transaction, parked, &rendered, |(outcome, _, _)| outcome.at, statement).await
}
