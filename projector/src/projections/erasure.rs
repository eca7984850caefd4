//! What is erased leaves the read models. A call's row stays: its content is sealed, and its key is gone.
//!
//! A tenant's rows and rows that are made anew come out the same: up to the erasure nothing can be opened any more, and after it nothing
//! of its scope makes a row. The same holds for a data subject, but for rows that calls about several made one after another: live, such
//! a row goes whole, and made anew it never learns what the data subject's calls said. docs/audit/erasure.md says what follows.

use std::collections::{BTreeSet, HashSet};

use sqlx::PgConnection;
use toolgate_events::{DataErased, ErasureEvent, Event, TenantId};
use uuid::Uuid;

use super::signed;
use crate::{batch::Numbered, ownership};

/// The word for a tenant's own scope.
const TENANT: &str = "tenant";

/// What the calls of a data subject made, in an order in which foreign keys allow it to go.
const OF_CALLS: [&str; 7] = [
    "delete from document where tenant_id = $1 and call_id = any($2)",
    "delete from knowledge_index i using knowledge_document d
     where i.tenant_id = $1 and d.tenant_id = $1 and d.document_id = i.document_id and d.call_id = any($2)",
    "delete from knowledge_document where tenant_id = $1 and call_id = any($2)",
    "delete from vector_item where tenant_id = $1 and call_id = any($2)",
    "delete from vector_collection c where c.tenant_id = $1 and c.call_id = any($2)
         and not exists (select from vector_item i where i.tenant_id = $1 and i.collection = c.collection)",
    "delete from template_version where tenant_id = $1 and call_id = any($2)",
    "delete from parked_event where tenant_id = $1 and aggregate_id = any($2)",
];
const OF_TENANT: [&str; 9] = [
    "delete from task_change where tenant_id = $1",
    "delete from task where tenant_id = $1",
    "delete from document where tenant_id = $1",
    "delete from knowledge_index where tenant_id = $1",
    "delete from knowledge_document where tenant_id = $1",
    "delete from vector_item where tenant_id = $1",
    "delete from vector_collection where tenant_id = $1",
    "delete from template_version where tenant_id = $1",
    "delete from parked_event where tenant_id = $1",
];

/// The scopes that were erased before a batch.
#[derive(Debug, Default)]
pub struct Erased(HashSet<(TenantId, String)>);

impl Erased {
    pub async fn load(transaction: &mut PgConnection, events: &[Numbered]) -> Result<Self, sqlx::Error> {
        let tenants: HashSet<Uuid> = events.iter().map(|event| event.tenant_id.0).collect();
        let rows: Vec<(Uuid, String)> = sqlx::query_as("select tenant_id, scope from erasure where tenant_id = any($1)")
            .bind(tenants.into_iter().collect::<Vec<_>>())
            .fetch_all(transaction)
            .await?;
        Ok(Self(rows.into_iter().map(|(tenant, scope)| (TenantId(tenant), scope)).collect()))
    }

    /// Whether content of a tenant's data subject makes no rows.
    pub fn covers(&self, tenant: TenantId, data_subject: Option<&str>) -> bool {
        !self.0.is_empty()
            && [Some(TENANT), data_subject].into_iter().flatten().any(|scope| self.0.contains(&(tenant, scope.to_owned())))
    }
}

/// Whether an event is an erasure.
pub fn is_one(at: &Numbered) -> bool {
    matches!(at.event, Ok(Event::Erasure(_)))
}

/// Keeps away, until the transaction ends, whoever tries again what is parked of those whose rows this batch will delete: what they
/// have opened before would come after the deletion. To be called before any of their rows is written, or the two wait in a circle.
pub async fn lock(transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    if !events.iter().any(is_one) {
        return Ok(());
    }
    let tenants: BTreeSet<TenantId> = events.iter().map(|event| event.tenant_id).collect();
    for tenant in tenants {
        ownership::lock_parked(transaction, tenant).await?;
    }
    Ok(())
}

/// Deletes what the erasures of a batch are about, and records them.
pub async fn project(transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    for (at, erased) in erasures(events) {
        sqlx::query("insert into erasure (tenant_id, scope, erased_at, position) values ($1, $2, $3, $4) on conflict do nothing")
            .bind(at.tenant_id.0)
            .bind(scope(erased))
            .bind(at.occurred_at())
            .bind(signed(at.row.position))
            .execute(&mut *transaction)
            .await?;
        match &erased.data_subject {
            Some(pseudonym) => data_subject(transaction, at.tenant_id, pseudonym).await?,
            None => {
                for statement in OF_TENANT {
                    sqlx::query(statement).bind(at.tenant_id.0).execute(&mut *transaction).await?;
                }
            }
        }
    }
    Ok(())
}

async fn data_subject(transaction: &mut PgConnection, tenant: TenantId, pseudonym: &str) -> Result<(), sqlx::Error> {
    // A call has no row where its request is parked; then the request itself says whom it is about. It is looked for in the text, because
    // PostgreSQL takes no member out of data with U+0000 in it. Where the request is archived as well, nobody can tell: what is parked of
    // such a call goes, too.
    let calls: Vec<Uuid> = sqlx::query_scalar(
        "select call_id from tool_call where tenant_id = $1 and data_subject = $2
         union
         select p.aggregate_id from parked_event p
             left join audit_event a on a.tenant_id = p.tenant_id and a.position = p.position
             left join tool_call c on c.tenant_id = p.tenant_id and c.call_id = p.aggregate_id
         where p.tenant_id = $1 and c.call_id is null and (a.position is null or strpos(a.data::text, $3) > 0)",
    )
    .bind(tenant.0)
    .bind(pseudonym)
    .bind(format!("\"data_subject\":{}", serde_json::Value::from(pseudonym)))
    .fetch_all(&mut *transaction)
    .await?;
    // A task that one of them changed may hold what it said, so such a task goes whole.
    let tasks: Vec<Uuid> = sqlx::query_scalar(
        "select task_id from task where tenant_id = $1 and call_id = any($2)
         union select task_id from task_change where tenant_id = $1 and call_id = any($2)",
    )
    .bind(tenant.0)
    .bind(&calls)
    .fetch_all(&mut *transaction)
    .await?;
    for table in ["task_change", "task"] {
        sqlx::query(&format!("delete from {table} where tenant_id = $1 and task_id = any($2)"))
            .bind(tenant.0)
            .bind(&tasks)
            .execute(&mut *transaction)
            .await?;
    }
    for statement in OF_CALLS {
        sqlx::query(statement).bind(tenant.0).bind(&calls).execute(&mut *transaction).await?;
    }
    Ok(())
}

fn erasures(events: &[Numbered]) -> impl Iterator<Item = (&Numbered, &DataErased)> {
    events.iter().filter_map(|at| match &at.event {
        Ok(Event::Erasure(ErasureEvent::DataErased(erased))) => Some((at, erased)),
        _ => None,
    })
}

fn scope(erased: &DataErased) -> &str {
    erased.data_subject.as_deref().unwrap_or(TENANT)
}
