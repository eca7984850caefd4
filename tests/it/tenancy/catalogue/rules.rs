//! The rules, asked of whatever there is: a new table is held to them before anybody has thought of it.

use sqlx::{Connection, PgConnection};

use super::{ask, list, tenant_tables};
use crate::app::{TableOwner, TestApp};

/// The tables without tenants. Each says nothing about any.
const OF_NOBODY: [&str; 2] = ["_sqlx_migrations", "projection_checkpoint"];

/// Where the projector changes rows; to all others it adds.
const UPDATED: [&str; 10] = [
    "document",
    "knowledge_document",
    "knowledge_index",
    "projection_checkpoint",
    "session",
    "session_tool",
    "task",
    "tool_call",
    "usage_day",
    "vector_item",
];

/// Where the projector deletes rows: what was made of content that was erased, and what is parked no longer.
const DELETED: [&str; 9] = [
    "document",
    "knowledge_document",
    "knowledge_index",
    "parked_event",
    "task",
    "task_change",
    "template_version",
    "vector_collection",
    "vector_item",
];

/// The tenant's policy, as PostgreSQL spells it.
const OF_THE_TENANT: &str =
    "(tenant_id = ( SELECT (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid AS \"nullif\"))";

/// What is looked for in it is part of its policy as well: docs/adr/0008-full-text-under-row-level-security.md.
const SEARCHED: &str = "knowledge_index";

const SEARCHED_FOR: &str = "(search_vector @@ ( SELECT ((quote_literal((chr(1) || NULLIF(current_setting('app.current_tenant'::text, \
                            true), ''::text))))::tsquery && (NULLIF(current_setting('app.search_query'::text, true), ''::text))::tsquery)))";

/// Has no order, and so no first column: whatever is asked of it holds the key of the tenant, because the policy adds it.
const INVERTED: &str = "knowledge_index_words";

/// Table, name, permissive or not, roles, command, condition, check.
type Policy = (String, String, String, String, String, Option<String>, Option<String>);

/// Name, whether it runs as its owner, settings, whether everybody may call it, language.
type Function = (String, bool, Option<Vec<String>>, bool, String);

async fn superuser() -> (TestApp, PgConnection) {
    let app = TestApp::start().await;
    let superuser = app.stack.connect(TableOwner::Superuser).await;
    (app, superuser)
}

#[tokio::test]
async fn every_table_has_row_security_that_its_owner_cannot_pass_by() {
    let (_app, mut superuser) = superuser().await;
    let tables: Vec<(String, bool, bool, String)> = ask(
        &mut superuser,
        "select relname::text, relrowsecurity, relforcerowsecurity, relowner::regrole::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'm', 'f') order by 1",
    )
    .await;
    for (table, enabled, forced, owner) in &tables {
        assert!((*enabled && *forced) || table == "_sqlx_migrations", "{table}: enable and force row level security");
        assert_eq!(owner, "toolgate_owner", "{table}");
    }
    let of_tenants = tenant_tables(&mut superuser).await;
    let of_nobody: Vec<_> = tables.iter().map(|(table, ..)| table).filter(|table| !of_tenants.contains(table)).collect();
    assert_eq!(of_nobody, OF_NOBODY, "a table has a tenant_id, or says here why it needs none");
    let nullable = list(
        &mut superuser,
        "select attrelid::regclass::text from pg_attribute join pg_class c on c.oid = attrelid
         where attname = 'tenant_id' and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
           and not (attnotnull and atttypid = 'uuid'::regtype and attgenerated = '' and not atthasdef)",
    )
    .await;
    assert!(nullable.is_empty(), "{nullable:?}: tenant_id is uuid not null, without a default");
}

#[tokio::test]
async fn every_policy_is_the_agreed_one() {
    let (_app, mut superuser) = superuser().await;
    let policies: Vec<Policy> = ask(
        &mut superuser,
        "select tablename::text, policyname::text, permissive, roles::text, cmd, qual, with_check from pg_policies order by 1, 2",
    )
    .await;
    let mut expected = Vec::new();
    for table in tenant_tables(&mut superuser).await.into_iter().chain(["projection_checkpoint".to_owned()]) {
        let (name, qual) =
            if OF_NOBODY.contains(&table.as_str()) { ("everyone_reads", "true") } else { ("tenant_reads", OF_THE_TENANT) };
        let policy = |name: &str, role: &str, cmd: &str, qual: &str, check: Option<&str>| {
            let text = |text: &str| text.to_owned();
            (table.clone(), text(name), text("PERMISSIVE"), text(role), text(cmd), Some(text(qual)), check.map(text))
        };
        let narrowed = format!("({qual} AND {SEARCHED_FOR})");
        let qual = if table == SEARCHED { narrowed.as_str() } else { qual };
        expected.push(policy(name, "{toolgate_reader}", "SELECT", qual, None));
        expected.push(policy("projector_writes", "{toolgate_projector}", "ALL", "true", Some("true")));
    }
    expected.sort();
    assert_eq!(policies, expected);
}

#[tokio::test]
async fn every_key_and_index_of_a_tenants_table_begins_with_the_tenant() {
    let (_app, mut superuser) = superuser().await;
    let tables = tenant_tables(&mut superuser).await;
    let indexes: Vec<(String, String, Option<String>, bool, bool)> = ask(
        &mut superuser,
        "select i.indrelid::regclass::text, i.indexrelid::regclass::text, a.attname::text, i.indisunique, i.indisexclusion
         from pg_index i join pg_class c on c.oid = i.indrelid
         left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
         where c.relnamespace = 'public'::regnamespace",
    )
    .await;
    for table in &tables {
        assert!(indexes.iter().any(|(of, ..)| of == table), "{table} has no key");
    }
    for (table, index, first, unique, exclusion) in indexes.into_iter().filter(|(table, ..)| tables.contains(table)) {
        if index == INVERTED {
            assert!(table == SEARCHED && !unique, "{index} of {table}: only where the policy names the tenant's key");
            continue;
        }
        assert_eq!(
            first.as_deref(),
            Some("tenant_id"),
            "{index} of {table} (unique: {unique}): a key without the tenant tells what others have"
        );
        assert!(!exclusion, "{index}: an exclusion constraint is a key as well");
    }
    let foreign: Vec<(String, String, String)> = ask(
        &mut superuser,
        "select conname::text, a.attname::text, f.attname::text from pg_constraint
         join pg_attribute a on a.attrelid = conrelid and a.attnum = conkey[1]
         join pg_attribute f on f.attrelid = confrelid and f.attnum = confkey[1]
         where contype = 'f'",
    )
    .await;
    assert!(!foreign.is_empty());
    for (key, here, there) in foreign {
        assert_eq!((here.as_str(), there.as_str()), ("tenant_id", "tenant_id"), "{key}: a row refers to its own tenant's rows");
    }
}

#[tokio::test]
async fn no_view_and_no_function_has_more_rights_than_its_caller() {
    let (_app, mut superuser) = superuser().await;
    let owners_views = list(
        &mut superuser,
        "select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'
           and not coalesce(reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)",
    )
    .await;
    assert!(owners_views.is_empty(), "{owners_views:?}: add with (security_invoker = true)");
    let stored = list(&mut superuser, "select relname::text from pg_class where relkind = 'm'").await;
    assert!(stored.is_empty(), "{stored:?}: a materialised view has no row security");

    let functions: Vec<Function> = ask(
        &mut superuser,
        "select p.oid::regprocedure::text, prosecdef, proconfig,
                exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0), l.lanname::text
         from pg_proc p join pg_language l on l.oid = prolang where pronamespace = 'public'::regnamespace",
    )
    .await;
    for (function, definer, settings, public, language) in functions {
        assert!(!definer, "{function} runs with its owner's rights");
        assert_eq!(settings.as_deref(), Some(&["search_path=pg_catalog".to_owned()][..]), "{function}: pin the search_path");
        assert!(!public, "{function}: revoke execute from public");
        assert!(["plpgsql", "sql"].contains(&language.as_str()), "{function} in {language}");
    }
    let callable: Vec<(String, String)> = ask(
        &mut superuser,
        "select p.oid::regprocedure::text, r.rolname::text from pg_proc p, pg_roles r
         where pronamespace = 'public'::regnamespace and r.rolname in ('toolgate_reader', 'toolgate_projector')
           and has_function_privilege(r.oid, p.oid, 'execute') order by 1, 2",
    )
    .await;
    assert_eq!(callable, [("set_tenant(uuid)".to_owned(), "toolgate_reader".to_owned())]);
}

#[tokio::test]
async fn every_grant_is_one_that_its_role_needs() {
    let (_app, mut superuser) = superuser().await;
    let mut expected = Vec::new();
    for table in tenant_tables(&mut superuser).await.iter().map(String::as_str).chain(["projection_checkpoint"]) {
        let mut grant = |role: &str, privilege: &str| expected.push(format!("{table}: {role} {privilege}"));
        grant("toolgate_reader", "SELECT");
        grant("toolgate_projector", "SELECT");
        grant("toolgate_projector", "INSERT");
        if UPDATED.contains(&table) {
            grant("toolgate_projector", "UPDATE");
        }
        if DELETED.contains(&table) {
            grant("toolgate_projector", "DELETE");
        }
    }
    expected.extend(["call_event", "tenant_event"].map(|view| format!("{view}: toolgate_reader SELECT")));
    expected.sort();
    let mut granted = list(
        &mut superuser,
        "select c.relname || ': ' || coalesce(nullif(g.grantee, 0)::regrole::text, 'PUBLIC') || ' ' || g.privilege_type
                || case when g.is_grantable then ' with grant option' else '' end
         from pg_class c, aclexplode(c.relacl) g
         where c.relnamespace = 'public'::regnamespace and g.grantee <> c.relowner",
    )
    .await;
    granted.sort();
    assert_eq!(granted, expected);
    let columns = list(
        &mut superuser,
        "select attrelid::regclass::text || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid
         where attacl is not null and c.relnamespace = 'public'::regnamespace",
    )
    .await;
    assert!(columns.is_empty(), "{columns:?}: grants are by table");
}

#[tokio::test]
async fn nothing_is_everybodys() {
    let (_app, mut superuser) = superuser().await;
    let mut schema = list(
        &mut superuser,
        "select coalesce(nullif(g.grantee, 0)::regrole::text, 'PUBLIC') || ' ' || g.privilege_type
         from pg_namespace n, aclexplode(n.nspacl) g where n.nspname = 'public' and g.grantee <> n.nspowner",
    )
    .await;
    schema.sort();
    assert_eq!(schema, ["toolgate_projector USAGE", "toolgate_reader USAGE"]);
    // The migrated database, of which the others are copies, and this copy.
    let databases = list(
        &mut superuser,
        "select d.datname || ': ' || g.privilege_type from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g
         where d.datname in ('toolgate', current_database()) and g.grantee = 0 and g.privilege_type <> 'CONNECT'",
    )
    .await;
    assert!(databases.is_empty(), "{databases:?}");
    // What the owner creates from now on belongs to nobody else until it is granted.
    let defaults = list(
        &mut superuser,
        "select coalesce(nullif(g.grantee, 0)::regrole::text, 'PUBLIC') from pg_default_acl d, aclexplode(d.defaclacl) g
         where g.grantee <> d.defaclrole",
    )
    .await;
    assert!(defaults.is_empty(), "{defaults:?}");
    let by_default = list(
        &mut superuser,
        "select defaclobjtype::text from pg_default_acl
         where defaclrole = 'toolgate_owner'::regrole and defaclnamespace = 0 order by 1",
    )
    .await;
    assert_eq!(by_default, ["T", "f"], "types and functions are public by default again");
}

#[tokio::test]
async fn the_roles_can_nothing_but_log_in_and_own_nothing() {
    let (app, mut superuser) = superuser().await;
    let mighty = list(
        &mut superuser,
        "select rolname::text from pg_roles where rolname in ('toolgate_reader', 'toolgate_projector')
           and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
         union all
         select rolname::text from pg_roles where rolname = 'toolgate_owner' and (rolsuper or rolbypassrls or rolreplication)",
    )
    .await;
    assert!(mighty.is_empty(), "{mighty:?}");
    let related = list(
        &mut superuser,
        "select member::regrole::text || ' in ' || roleid::regrole::text from pg_auth_members
         where member::regrole::text ~ '^toolgate' or roleid::regrole::text ~ '^toolgate'",
    )
    .await;
    assert!(related.is_empty(), "{related:?}: a member can become the other");
    let owned = list(
        &mut superuser,
        "with runtime as (select oid from pg_roles where rolname in ('toolgate_reader', 'toolgate_projector'))
         select classid::regclass::text || ' ' || objid::text from pg_shdepend
         where refclassid = 'pg_authid'::regclass and refobjid in (select oid from runtime) and deptype = 'o'
         union all select datname::text from pg_database where datdba in (select oid from runtime)",
    )
    .await;
    assert!(owned.is_empty(), "{owned:?}");
    for login in [TableOwner::Reader, TableOwner::Projector, TableOwner::Owner] {
        let mut connection = app.stack.connect(login).await;
        let is_passed_by: bool =
            sqlx::query_scalar("select not row_security_active('task')").fetch_one(&mut connection).await.unwrap();
        assert!(!is_passed_by, "{login:?}");
        connection.close().await.unwrap();
    }
}
