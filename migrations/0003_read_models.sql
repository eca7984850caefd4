-- What the tenants read: the calls, and what the tools' outcomes made.
-- Every row says at which position it came to be, so that projecting an event twice changes nothing.

create table tool_call (
    tenant_id          uuid        not null,
    call_id            uuid        not null,
    tool               text        not null,
    lane               text        not null,
    status             text        not null check (status in ('requested', 'running', 'succeeded', 'failed', 'cancelled')),
    session_id         text,
    principal          text        not null,
    arguments          json        not null,
    options            json        not null,
    result             json,
    error              json,
    attempts           integer     not null default 0,
    requested_at       timestamptz not null,
    finished_at        timestamptz,
    requested_position bigint      not null,
    position           bigint      not null,
    primary key (tenant_id, call_id)
);
create index tool_call_newest on tool_call (tenant_id, requested_position desc);
create index tool_call_session on tool_call (tenant_id, session_id, requested_position desc) where session_id is not null;

create table task (
    tenant_id   uuid        not null,
    task_id     uuid        not null,
    call_id     uuid        not null,
    title       text        not null,
    description text,
    assignee    text,
    due         timestamptz,
    labels      text[]      not null default '{}',
    status      text        not null default 'open',
    created_at  timestamptz not null,
    position    bigint      not null,
    primary key (tenant_id, task_id),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);
create index task_newest on task (tenant_id, position desc);

create table document (
    tenant_id    uuid        not null,
    artifact_id  uuid        not null,
    call_id      uuid        not null,
    title        text        not null,
    content_type text        not null,
    size         bigint      not null check (size >= 0),
    sha256       text        not null,
    created_at   timestamptz not null,
    position     bigint      not null,
    primary key (tenant_id, artifact_id),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);
create index document_newest on document (tenant_id, position desc);

create table knowledge_document (
    tenant_id     uuid        not null,
    document_id   text        not null,
    call_id       uuid        not null,
    title         text        not null,
    content       text        not null,
    locale        text,
    metadata      jsonb       not null default '{}',
    search_config regconfig   not null,
    search_vector tsvector    not null generated always as (
        setweight(to_tsvector(search_config, title), 'A') || setweight(to_tsvector(search_config, content), 'B')
    ) stored,
    updated_at    timestamptz not null,
    position      bigint      not null,
    primary key (tenant_id, document_id),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);

do $$
declare name text;
begin
    foreach name in array array['tool_call', 'task', 'document', 'knowledge_document'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format(
            $policy$create policy tenant_reads on %I for select to toolgate_reader
                using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid))$policy$, name);
        execute format('create policy projector_writes on %I to toolgate_projector using (true) with check (true)', name);
        execute format('grant select on %I to toolgate_reader', name);
        execute format('grant select, insert, update on %I to toolgate_projector', name);
    end loop;
end
$$;
