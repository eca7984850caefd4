//! Indexes cost more to keep up row by row than to make at the end. Those that serve readers alone are made when the tables are about
//! to have some.

use sqlx::{Executor, PgConnection};

use super::Error;

/// Nothing that projects looks into these, and none of their keys can be too long: an index over text refuses rows, which parks their
/// events, so such a one has to be there from the beginning.
const OF_READERS: &[&str] = &[
    "audit_event_aggregate",
    "audit_event_occurred",
    "document_newest",
    "knowledge_document_newest",
    "session_newest",
    "task_newest",
    "tool_call_newest",
    "tool_call_open_update",
];

/// Drops them, and remembers how to make them in a table beside the others: whoever goes on after a crash finds it there.
///
/// # Errors
/// Whatever the database says.
pub async fn leave_for_later(owner: &mut PgConnection, schema: &str) -> Result<(), Error> {
    let names = OF_READERS.join("', '");
    let statement = format!(
        "do $later$
        declare one record;
        begin
            if to_regclass('{schema}.index_to_make') is null then
                create table {schema}.index_to_make (definition text not null);
            end if;
            for one in
                select indexrelid::regclass as name, pg_get_indexdef(indexrelid) as definition
                from pg_index join pg_class c on c.oid = indexrelid
                where relnamespace = '{schema}'::regnamespace and relname in ('{names}')
            loop
                insert into {schema}.index_to_make values (one.definition);
                execute format('drop index %s', one.name);
            end loop;
        end
        $later$"
    );
    owner.execute(statement.as_str()).await?;
    Ok(())
}

/// Makes what was left for later.
///
/// # Errors
/// Whatever the database says.
pub async fn make(owner: &mut PgConnection, schema: &str) -> Result<(), Error> {
    let statement = format!(
        "do $make$
        declare one record;
        begin
            if to_regclass('{schema}.index_to_make') is not null then
                for one in select definition from {schema}.index_to_make loop
                    execute one.definition;
                end loop;
                drop table {schema}.index_to_make;
            end if;
        end
        $make$"
    );
    owner.execute(statement.as_str()).await?;
    Ok(())
}
