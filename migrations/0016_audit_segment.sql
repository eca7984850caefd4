-- Old stretches of the audit trail leave the table for compressed segments in the object store. What is here says which stretch is
-- where, and what it must look like: a segment is believed when its bytes have this digest and its rows continue this chain.

create table audit_segment (
    tenant_id         uuid        not null,
    first_position    bigint      not null check (first_position > 0),
    last_position     bigint      not null check (last_position >= first_position),
    -- The hash before the first row, and the hash of the last one.
    prev_hash         text        not null,
    hash              text        not null,
    first_occurred_at timestamptz not null,
    last_occurred_at  timestamptz not null,
    -- Of the compressed bytes.
    size              bigint      not null check (size > 0),
    sha256            text        not null,
    archived_at       timestamptz not null default now(),
    primary key (tenant_id, first_position)
);
-- Which segments hold a stretch of positions, and where the archive ends.
create index audit_segment_last on audit_segment (tenant_id, last_position);

alter table audit_segment enable row level security;
alter table audit_segment force row level security;
create policy tenant_reads on audit_segment for select to toolgate_reader
    using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid));
create policy projector_writes on audit_segment to toolgate_projector using (true) with check (true);
grant select on audit_segment to toolgate_reader;
grant select, insert on audit_segment to toolgate_projector;
