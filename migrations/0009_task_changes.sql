-- Tasks change: each change is the next version, and the history of a task says who moved it from where to where.
-- A task that was never changed has no updated_at: a projector of the release before still writes rows while this is applied.

alter table task
    add column version          integer not null default 1 check (version > 0),
    add column updated_at       timestamptz,
    add column updated_position bigint,
    add constraint task_status_check check (status in ('open', 'in_progress', 'blocked', 'done', 'cancelled'));
create index task_status on task (tenant_id, status, position desc);
create index task_assignee on task (tenant_id, assignee, position desc) where assignee is not null;

-- A change waits for the earlier ones of its task; without this index it would read all of the tenant's open calls.
create index tool_call_open_update on tool_call (tenant_id, requested_position)
    where finished_at is null and tool = 'task.update';

create table task_change (
    tenant_id       uuid        not null,
    task_id         uuid        not null,
    version         integer     not null,
    call_id         uuid        not null,
    previous_status text        not null,
    status          text        not null,
    comment         text,
    changed_at      timestamptz not null,
    position        bigint      not null,
    primary key (tenant_id, task_id, version),
    foreign key (tenant_id, task_id) references task (tenant_id, task_id),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);

alter table task_change enable row level security;
alter table task_change force row level security;
create policy tenant_reads on task_change for select to toolgate_reader
    using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid));
create policy projector_writes on task_change to toolgate_projector using (true) with check (true);
grant select on task_change to toolgate_reader;
grant select, insert on task_change to toolgate_projector;
