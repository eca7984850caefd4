-- Content can be erased: a data subject's calls are known by its pseudonym, and what was made of erased content is deleted.
-- docs/audit/erasure.md says how.

-- Whom the content of a call is about. Absent where the caller named nobody: then it is the tenant's.
alter table tool_call add column data_subject text;
create index tool_call_data_subject on tool_call (tenant_id, data_subject) where data_subject is not null;

-- What has been erased, and as of which position. Content that comes later, of whatever a worker still held, makes no rows.
create table erasure (
    tenant_id  uuid        not null,
    -- A data subject's pseudonym, or `tenant`.
    scope      text        not null,
    erased_at  timestamptz not null,
    position   bigint      not null,
    primary key (tenant_id, scope)
);

alter table erasure enable row level security;
alter table erasure force row level security;
create policy tenant_reads on erasure for select to toolgate_reader
    using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid));
create policy projector_writes on erasure to toolgate_projector using (true) with check (true);
grant select on erasure to toolgate_reader;
grant select, insert on erasure to toolgate_projector;

-- The reason why an event was parked may quote what it could not read.
grant delete on task, task_change, document, knowledge_document, knowledge_index, vector_item, vector_collection, template_version,
    parked_event to toolgate_projector;

-- PostgreSQL's own statistics quote what is frequent in a column, and no deletion takes it out of them again. So none are kept of
-- what somebody said.
alter table task alter column title set statistics 0, alter column description set statistics 0,
    alter column assignee set statistics 0, alter column labels set statistics 0;
alter table task_change alter column comment set statistics 0;
alter table document alter column title set statistics 0;
alter table knowledge_document alter column document_id set statistics 0, alter column title set statistics 0,
    alter column content set statistics 0, alter column metadata set statistics 0, alter column source set statistics 0,
    alter column search_vector set statistics 0;
alter table knowledge_index alter column document_id set statistics 0, alter column metadata set statistics 0,
    alter column search_vector set statistics 0;
alter table vector_item alter column item_id set statistics 0, alter column embedding set statistics 0,
    alter column metadata set statistics 0, alter column search_vector set statistics 0;
alter table template_version alter column markdown set statistics 0, alter column description set statistics 0;
alter table parked_event alter column reason set statistics 0;
