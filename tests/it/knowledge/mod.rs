//! The knowledge base: what is written, found and read, and by whom.

mod index;
mod load;
mod search;

use sqlx::{Connection, Executor, PgConnection};

use crate::app::{Stack, TableOwner, Tenant};

/// Puts documents into the knowledge base of a tenant that has had no call, as if they had been projected one after another:
/// `content` is SQL that makes a text of the number `n`.
pub async fn insert_documents(stack: &Stack, tenant: Tenant, count: i32, content: &str) {
    let mut connection = stack.connect(TableOwner::Superuser).await;
    let call = "insert into tool_call (tenant_id, call_id, tool, lane, status, principal, arguments, options, requested_at,
                    finished_at, requested_position, position)
                values ($1, $1, 'knowledge.upsert', 'ingest', 'succeeded', 'somebody', '{}', '{}', now(), now(), 1, 1)";
    sqlx::query(call).bind(tenant.0).execute(&mut connection).await.unwrap();
    let documents = format!(
        "insert into knowledge_document (tenant_id, document_id, call_id, title, content, locale, search_config, updated_at, position)
         select $1, 'd' || n, $1, 'Number ' || n, {content}, 'en', 'english', now(), n from generate_series(1, $2) n"
    );
    sqlx::query(&documents).bind(tenant.0).bind(count).execute(&mut connection).await.unwrap();
    connection.execute("vacuum analyze knowledge_index").await.unwrap();
    connection.close().await.unwrap();
}

/// A connection as the reader, in a transaction of the tenant that looks for `query`.
pub async fn reader_looking_for(stack: &Stack, tenant: Tenant, query: &str) -> PgConnection {
    let mut reader = stack.connect(TableOwner::Reader).await;
    reader.execute(format!("begin transaction read only; select set_tenant('{}')", tenant.0).as_str()).await.unwrap();
    let look_for = sqlx::query("select set_config('app.search_query', $1, true)").bind(query);
    look_for.execute(&mut reader).await.unwrap();
    reader
}
