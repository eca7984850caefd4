//! Everything that PostgreSQL's catalogue knows of this database, held to the rules of docs/security/tenancy.md.

mod covered;
mod rules;

use sqlx::{FromRow, PgConnection, postgres::PgRow};

/// The rows of a question to the catalogue.
async fn ask<T>(connection: &mut PgConnection, question: &str) -> Vec<T>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as(question).fetch_all(connection).await.unwrap_or_else(|error| panic!("{error}: {question}"))
}

/// One column of it, as text.
async fn list(connection: &mut PgConnection, question: &str) -> Vec<String> {
    ask::<(String,)>(connection, question).await.into_iter().map(|(text,)| text).collect()
}

/// The tables that hold rows of tenants.
pub async fn tenant_tables(connection: &mut PgConnection) -> Vec<String> {
    list(
        connection,
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'm', 'f')
           and a.attname = 'tenant_id' and not a.attisdropped
         order by 1",
    )
    .await
}
