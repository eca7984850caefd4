-- The audit trail: every event of the log, one row each, chained per tenant. Append-only for everybody.

create table audit_event (
    tenant_id          uuid        not null,
    position           bigint      not null check (position > 0),
    stream_sequence    bigint      not null check (stream_sequence > 0),
    event_id           uuid        not null,
    event_type         text        not null,
    event_version      integer     not null,
    aggregate_type     text        not null,
    aggregate_id       uuid        not null,
    aggregate_sequence bigint      not null,
    actor              text        not null,
    occurred_at        timestamptz not null,
    correlation_id     uuid        not null,
    causation_id       uuid,
    -- json, not jsonb: the hash is over the text that was recorded, and jsonb respells numbers.
    data               json        not null,
    traceparent        text,
    prev_hash          text        not null,
    hash               text        not null,
    primary key (tenant_id, position)
);
-- One call's history, in order.
create index audit_event_aggregate on audit_event (tenant_id, aggregate_id, position);

create function refuse_change() returns trigger
    language plpgsql
    set search_path = pg_catalog
    as $$ begin raise exception 'audit_event is append-only' using errcode = 'insufficient_privilege'; end $$;
create trigger audit_event_append_only before update or delete on audit_event
    for each row execute function refuse_change();
create trigger audit_event_no_truncate before truncate on audit_event
    for each statement execute function refuse_change();

-- What could not be understood is kept whole and set aside, so that it stops nobody else.
create table parked_event (
    tenant_id       uuid        not null,
    -- A tenant lives in one partition, so this names the message.
    stream_sequence bigint      not null,
    reason          text        not null,
    parked_at       timestamptz not null default now(),
    primary key (tenant_id, stream_sequence)
);

-- How far each partition is projected. Not a tenant's data: it says nothing but numbers.
create table projection_checkpoint (
    projection      text        not null,
    partition       integer     not null,
    stream_sequence bigint      not null check (stream_sequence >= 0),
    -- Of the last projected event: a log that was replaced is told from one that grew.
    event_id        uuid,
    updated_at      timestamptz not null default now(),
    primary key (projection, partition)
);

alter table audit_event enable row level security;
alter table audit_event force row level security;
alter table parked_event enable row level security;
alter table parked_event force row level security;
alter table projection_checkpoint enable row level security;
alter table projection_checkpoint force row level security;

-- The setting is null when no tenant is set, which equals no row's tenant; as a subquery it is read once per statement.
create policy tenant_reads on audit_event for select to toolgate_reader
    using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid));
create policy tenant_reads on parked_event for select to toolgate_reader
    using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid));
create policy everyone_reads on projection_checkpoint for select to toolgate_reader using (true);
create policy projector_writes on audit_event to toolgate_projector using (true) with check (true);
create policy projector_writes on parked_event to toolgate_projector using (true) with check (true);
create policy projector_writes on projection_checkpoint to toolgate_projector using (true) with check (true);

grant select on audit_event, parked_event, projection_checkpoint to toolgate_reader;
grant select, insert on audit_event, parked_event to toolgate_projector;
grant select, insert, update on projection_checkpoint to toolgate_projector;
