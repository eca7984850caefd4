-- The templates that template.upsert kept: every version of each, for a document names the one it was made from.
-- Which version an outcome becomes is decided when it is projected, the only place where a tenant's outcomes have an order.

create table template_version (
    tenant_id   uuid        not null,
    template_id text        not null,
    version     integer     not null check (version >= 1),
    call_id     uuid        not null,
    markdown    text        not null,
    description text,
    sha256      text        not null,
    created_at  timestamptz not null,
    position    bigint      not null,
    primary key (tenant_id, template_id, version),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);

alter table template_version enable row level security;
alter table template_version force row level security;
create policy tenant_reads on template_version for select to toolgate_reader
    using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid));
create policy projector_writes on template_version to toolgate_projector using (true) with check (true);
grant select on template_version to toolgate_reader;
grant select, insert on template_version to toolgate_projector;
