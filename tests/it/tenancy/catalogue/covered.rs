//! The list of what there is. An object that is not in it was never looked at by anybody.

use std::collections::BTreeSet;

use super::list;
use crate::app::{TableOwner, TestApp};

const COVERED: &[&str] = &[
    "check audit_event_position_check",
    "check audit_segment_check",
    "check audit_segment_first_position_check",
    "check audit_segment_size_check",
    "check audit_event_stream_sequence_check",
    "check document_size_check",
    "check parked_event_kind_check",
    "check projection_checkpoint_halt_check",
    "check projection_checkpoint_stream_sequence_check",
    "check session_check",
    "check session_first_position_check",
    "check task_status_check",
    "check task_version_check",
    "check template_version_version_check",
    "check tool_call_status_check",
    "check usage_day_check",
    "check usage_day_first_position_check",
    "check vector_collection_dimensions_check",
    "extension plpgsql",
    "foreign key document_tenant_id_call_id_fkey",
    "foreign key knowledge_document_tenant_id_call_id_fkey",
    "foreign key session_tool_tenant_id_session_id_fkey",
    "foreign key task_change_tenant_id_call_id_fkey",
    "foreign key task_change_tenant_id_task_id_fkey",
    "foreign key task_tenant_id_call_id_fkey",
    "foreign key vector_collection_tenant_id_call_id_fkey",
    "foreign key vector_item_tenant_id_call_id_fkey",
    "foreign key vector_item_tenant_id_collection_fkey",
    "foreign key knowledge_index_tenant_id_document_id_fkey",
    "function index_knowledge_document()",
    "foreign key template_version_tenant_id_call_id_fkey",
    "function refuse_change()",
    "function set_tenant(uuid)",
    "index _sqlx_migrations_pkey",
    "index audit_event_aggregate",
    "index audit_event_occurred",
    "index audit_event_pkey",
    "index document_call",
    "index audit_segment_last",
    "index audit_segment_pkey",
    "index document_newest",
    "index erasure_pkey",
    "index tool_call_data_subject",
    "index document_pkey",
    "index knowledge_document_config",
    "index knowledge_document_newest",
    "index knowledge_document_pkey",
    "index knowledge_index_pkey",
    "index knowledge_index_words",
    "index parked_event_call",
    "index parked_event_pkey",
    "index projection_checkpoint_pkey",
    "index session_newest",
    "index session_pkey",
    "index session_tool_pkey",
    "index task_assignee",
    "index task_call",
    "index task_change_pkey",
    "index task_newest",
    "index task_pkey",
    "index task_status",
    "index template_version_pkey",
    "index tool_call_newest",
    "index tool_call_open",
    "index tool_call_open_update",
    "index tool_call_pkey",
    "index tool_call_session",
    "index usage_day_pkey",
    "index vector_collection_pkey",
    "index vector_item_pkey",
    "policy audit_event.projector_writes",
    "policy audit_event.tenant_reads",
    "policy audit_segment.projector_writes",
    "policy audit_segment.tenant_reads",
    "policy document.projector_writes",
    "policy document.tenant_reads",
    "policy erasure.projector_writes",
    "policy erasure.tenant_reads",
    "policy knowledge_document.projector_writes",
    "policy knowledge_document.tenant_reads",
    "policy knowledge_index.projector_writes",
    "policy knowledge_index.tenant_reads",
    "policy parked_event.projector_writes",
    "policy parked_event.tenant_reads",
    "policy projection_checkpoint.everyone_reads",
    "policy projection_checkpoint.projector_writes",
    "policy session.projector_writes",
    "policy session.tenant_reads",
    "policy session_tool.projector_writes",
    "policy session_tool.tenant_reads",
    "policy task.projector_writes",
    "policy task.tenant_reads",
    "policy task_change.projector_writes",
    "policy task_change.tenant_reads",
    "policy template_version.projector_writes",
    "policy template_version.tenant_reads",
    "policy tool_call.projector_writes",
    "policy tool_call.tenant_reads",
    "policy usage_day.projector_writes",
    "policy usage_day.tenant_reads",
    "policy vector_collection.projector_writes",
    "policy vector_collection.tenant_reads",
    "policy vector_item.projector_writes",
    "policy vector_item.tenant_reads",
    "role toolgate_owner",
    "role toolgate_projector",
    "role toolgate_reader",
    "schema public",
    "table _sqlx_migrations",
    "table audit_event",
    "table audit_segment",
    "table document",
    "table erasure",
    "table knowledge_document",
    "table knowledge_index",
    "table parked_event",
    "table projection_checkpoint",
    "table session",
    "table session_tool",
    "table task",
    "table task_change",
    "table template_version",
    "table tool_call",
    "table usage_day",
    "table vector_collection",
    "table vector_item",
    "trigger audit_event.audit_event_append_only",
    "trigger audit_event.audit_event_no_truncate",
    "trigger knowledge_document.knowledge_document_index",
    "view call_event",
    "view tenant_event",
];

/// What migrations make only where the server offers it and the owner may. It is in a schema of its own, and holds no rows.
const WHERE_OFFERED: [&str; 2] = ["extension vector", "schema pgvector"];

/// Whatever can hold rows, show them, run, or let somebody in. What PostgreSQL itself brings along is left out; the types of tables
/// and the triggers of foreign keys come with those.
const EVERYTHING: &str = "
    select case relkind when 'r' then 'table' when 'p' then 'table' when 'v' then 'view' when 'm' then 'materialised view'
        when 'S' then 'sequence' when 'i' then 'index' when 'I' then 'index' when 'f' then 'foreign table' when 'c' then 'type'
        else 'relation' end || ' ' || relname
        from pg_class where relnamespace = 'public'::regnamespace
    union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
    union all select 'function ' || oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace
    union all select 'trigger ' || tgrelid::regclass::text || '.' || tgname from pg_trigger where not tgisinternal
    union all select 'type ' || typname from pg_type
        where typnamespace = 'public'::regnamespace and typtype in ('e', 'd', 'r', 'm', 'b') and typelem = 0
    union all select 'policy ' || polrelid::regclass::text || '.' || polname from pg_policy
    union all select case contype when 'f' then 'foreign key ' when 'c' then 'check ' else 'constraint ' end || conname
        from pg_constraint where connamespace = 'public'::regnamespace and contype not in ('p', 'u', 'n')
    union all select 'rule ' || rulename from pg_rules where schemaname = 'public'
    union all select 'operator ' || oprname from pg_operator where oprnamespace = 'public'::regnamespace
    union all select 'statistics ' || stxname from pg_statistic_ext
    union all select 'text search configuration ' || cfgname from pg_ts_config where cfgnamespace = 'public'::regnamespace
    union all select 'event trigger ' || evtname from pg_event_trigger
    union all select 'extension ' || extname from pg_extension
    union all select 'publication ' || pubname from pg_publication
    union all select 'foreign server ' || srvname from pg_foreign_server
    union all select 'large object ' || oid::text from pg_largeobject_metadata
    union all select 'role ' || rolname from pg_roles where rolname !~ '^pg_' and not rolsuper
    union all select 'membership of ' || member::regrole::text || ' in ' || roleid::regrole::text from pg_auth_members
        where member::regrole::text !~ '^pg_'
    union all select 'setting of ' || coalesce(nullif(setrole, 0)::regrole::text, 'everybody') || ': ' || unnest(setconfig)
        from pg_db_role_setting";

#[tokio::test]
async fn there_is_nothing_in_the_database_that_nobody_has_looked_at() {
    let app = TestApp::start().await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let there: BTreeSet<_> = list(&mut superuser, EVERYTHING).await.into_iter().collect();
    let covered: BTreeSet<_> = COVERED.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(covered.len(), COVERED.len(), "something is covered twice");
    let new: Vec<_> = there.difference(&covered).filter(|name| !WHERE_OFFERED.contains(&name.as_str())).collect();
    assert!(
        new.is_empty(),
        "nobody has looked at {new:#?}: read docs/security/tenancy.md, make sure that each keeps its rules, and add it to COVERED in \
         tests/it/tenancy/catalogue/covered.rs; a new kind of table also to the rules beside it"
    );
    let gone: Vec<_> = covered.difference(&there).collect();
    assert!(gone.is_empty(), "{gone:#?} is covered and no longer there: remove it from COVERED");
}
