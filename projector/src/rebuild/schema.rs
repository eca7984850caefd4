//! The schema beside the live one: made by the same migrations, so that tables, policies, grants and triggers are the same.

use sqlx::{Executor, PgConnection, migrate::Migrator};

use super::{Error, Purpose};

/// Where the live projections are.
pub const LIVE: &str = "public";
/// Where they are between a switch and their end.
pub const RETIRED: &str = "toolgate_retired";
/// One for all of them: whoever makes, compares or switches holds it. "TGRB" in ASCII.
const LOCK: i64 = 0x5447_5242;

/// Takes the one place, drops everything that was ever made beside the live schema, and gives the place back.
///
/// # Errors
/// [`Error::Taken`] when somebody else has it.
pub async fn discard_all(owner: &mut PgConnection) -> Result<(), Error> {
    take_place(owner).await?;
    for purpose in [Purpose::Check, Purpose::Replace] {
        drop(owner, purpose.schema()).await?;
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(LOCK).execute(owner).await?;
    Ok(())
}

/// Takes the one place for whoever rebuilds, for as long as the connection lasts, and takes away what a switch left behind that died
/// half-way.
///
/// # Errors
/// [`Error::Taken`] when somebody else has it.
pub async fn take_place(owner: &mut PgConnection) -> Result<(), Error> {
    let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *owner).await?;
    if !taken {
        return Err(Error::Taken);
    }
    drop(owner, RETIRED).await
}

/// Whether the schema is there.
///
/// # Errors
/// Whatever the database says.
pub async fn exists(owner: &mut PgConnection, name: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)").bind(name).fetch_one(owner).await?)
}

/// Makes the schema, or completes one whose making was interrupted. `beside` is a connection of the owner whose search path is the
/// schema, and nothing else.
///
/// # Errors
/// [`Error::NotMigrated`] when the live schema has other migrations than this release.
pub async fn make(beside: &mut PgConnection, name: &str, migrations: &Migrator) -> Result<(), Error> {
    let owner: String = sqlx::query_scalar("select nspowner::regrole::text from pg_namespace where nspname = $1")
        .bind(LIVE)
        .fetch_one(&mut *beside)
        .await?;
    // The name of a role as `regrole` shows it is quoted where it has to be.
    let create = format!("create schema if not exists {name} authorization {owner}");
    beside.execute(create.as_str()).await?;
    let grant = format!("grant usage on schema {name} to toolgate_reader, toolgate_projector");
    beside.execute(grant.as_str()).await?;
    migrations.run(&mut *beside).await?;
    let same: bool = sqlx::query_scalar(&format!(
        "select array(select version from {LIVE}._sqlx_migrations where success order by version)
             = array(select version from {name}._sqlx_migrations where success order by version)"
    ))
    .fetch_one(&mut *beside)
    .await?;
    if !same {
        return Err(Error::NotMigrated);
    }
    requalify(beside, name, LIVE, name).await
}

/// Nothing of the tables goes into the write-ahead log, for a schema that ends with its process. They are empty still.
///
/// # Errors
/// Whatever the database says.
pub async fn make_unlogged(owner: &mut PgConnection, schema: &str) -> Result<(), Error> {
    // A table must be done before those that its foreign keys point to.
    let statement = format!(
        "do $unlogged$
        declare one record;
        begin
            for one in
                with recursive points (relation, depth) as (
                    select oid, 0 from pg_class where relnamespace = '{schema}'::regnamespace and relkind = 'r'
                    union
                    select confrelid, depth + 1 from points join pg_constraint on conrelid = relation and contype = 'f'
                        and confrelid <> conrelid
                )
                select relation::regclass as name from points group by relation order by max(depth)
            loop
                execute format('alter table %s set unlogged', one.name);
            end loop;
        end
        $unlogged$"
    );
    owner.execute(statement.as_str()).await?;
    Ok(())
}

/// Functions name what they write to in full. In `schema`, they shall name `to` where they named `from`.
///
/// # Errors
/// Whatever the database says.
pub async fn requalify(owner: &mut PgConnection, schema: &str, from: &str, to: &str) -> Result<(), Error> {
    let statement = format!(
        r"do $requalify$
        declare definition text;
        begin
            for definition in
                select regexp_replace(pg_get_functiondef(oid), '\m{from}\.', '{to}.', 'g') from pg_proc
                where pronamespace = '{schema}'::regnamespace and prokind in ('f', 'p') and prosrc ~ '\m{from}\.'
            loop
                execute definition;
            end loop;
        end
        $requalify$"
    );
    owner.execute(statement.as_str()).await?;
    Ok(())
}

/// Drops the schema with everything in it. Who still reads in it is waited for.
///
/// # Errors
/// Whatever the database says.
pub async fn drop(owner: &mut PgConnection, name: &str) -> Result<(), Error> {
    let statement = format!("set client_min_messages = warning; drop schema if exists {name} cascade; reset client_min_messages");
    owner.execute(statement.as_str()).await?;
    Ok(())
}

/// What the two schemas do not have in common: a switch would lose what somebody has made by hand.
///
/// # Errors
/// Whatever the database says.
pub async fn differences(owner: &mut PgConnection, name: &str) -> Result<Vec<String>, Error> {
    let live = describe(owner, LIVE).await?;
    let beside = describe(owner, name).await?;
    let only = |these: &[String], others: &[String], whose: &str| -> Vec<String> {
        these.iter().filter(|it| others.binary_search(it).is_err()).map(|it| format!("{whose}: {it}")).collect()
    };
    Ok([only(&live, &beside, "only live"), only(&beside, &live, "missing")].concat())
}

/// Everything in a schema, with its definition and who may use it, sorted. The schema's name is left out.
async fn describe(owner: &mut PgConnection, schema: &str) -> Result<Vec<String>, Error> {
    let query = format!(
        r"select regexp_replace(thing, '\m{schema}\.', '', 'g') from (
            select relkind::text || ' ' || relname || ' ' || coalesce(array(select unnest(relacl)::text order by 1)::text, '') as thing
                from pg_class where relnamespace = $1::regnamespace
            union all select 'column ' || relname || '.' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull
                    || coalesce(' ' || pg_get_expr(adbin, adrelid), '')
                from pg_attribute join pg_class c on c.oid = attrelid left join pg_attrdef on adrelid = attrelid and adnum = attnum
                where relnamespace = $1::regnamespace and relkind in ('r', 'v', 'm', 'p') and attnum > 0 and not attisdropped
            union all select 'index ' || pg_get_indexdef(indexrelid)
                from pg_index join pg_class c on c.oid = indexrelid where relnamespace = $1::regnamespace
            union all select 'constraint ' || conname || ' ' || pg_get_constraintdef(oid)
                from pg_constraint where connamespace = $1::regnamespace
            union all select 'policy ' || c.relname || '.' || polname || ' ' || polcmd::text || ' '
                    || coalesce(pg_get_expr(polqual, polrelid), '') || ' ' || coalesce(pg_get_expr(polwithcheck, polrelid), '')
                from pg_policy join pg_class c on c.oid = polrelid where relnamespace = $1::regnamespace
            union all select 'trigger ' || pg_get_triggerdef(t.oid)
                from pg_trigger t join pg_class c on c.oid = tgrelid where relnamespace = $1::regnamespace and not tgisinternal
            union all select 'function ' || proname || '(' || pg_get_function_identity_arguments(oid) || ') '
                    || coalesce(array(select unnest(proacl)::text order by 1)::text, '')
                from pg_proc where pronamespace = $1::regnamespace
            union all select 'type ' || typname from pg_type
                where typnamespace = $1::regnamespace and typtype in ('e', 'd', 'r', 'm', 'b') and typelem = 0
            union all select 'statistics ' || stxname from pg_statistic_ext where stxnamespace = $1::regnamespace
        ) as things order by 1"
    );
    let mut found: Vec<String> = sqlx::query_scalar(&query).bind(schema).fetch_all(owner).await?;
    found.sort_unstable();
    Ok(found)
}
