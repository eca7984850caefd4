-- Sessions and usage: what the events of a session come to, and what a tenant used of each tool on each day.
-- Both only add up. Every event is numbered once, and what it adds commits together with its audit row, so nothing is counted twice;
-- and because sums do not depend on the order, a projection made anew has equal rows.

create table session (
    tenant_id      uuid        not null,
    session_id     text        not null,
    -- Of its first and its last event.
    first_position bigint      not null check (first_position > 0),
    first_at       timestamptz not null,
    position       bigint      not null check (position >= first_position),
    last_at        timestamptz not null,
    principals     text[]      not null,
    calls          bigint      not null,
    -- Of those without an outcome, the ones that a worker has claimed.
    running        bigint      not null,
    succeeded      bigint      not null,
    failed         bigint      not null,
    cancelled      bigint      not null,
    cached         bigint      not null,
    attempts       bigint      not null,
    artifacts      bigint      not null,
    tasks          bigint      not null,
    duration_ms    bigint      not null,
    primary key (tenant_id, session_id)
);
-- The list of sessions: newest activity first.
create index session_newest on session (tenant_id, position desc);

create table session_tool (
    tenant_id       uuid   not null,
    session_id      text   not null,
    tool            text   not null,
    calls           bigint not null,
    succeeded       bigint not null,
    failed          bigint not null,
    cancelled       bigint not null,
    cached          bigint not null,
    attempts        bigint not null,
    duration_ms     bigint not null,
    max_duration_ms bigint not null,
    primary key (tenant_id, session_id, tool),
    foreign key (tenant_id, session_id) references session (tenant_id, session_id)
);

create table usage_day (
    tenant_id      uuid     not null,
    -- UTC, by the event's own time.
    day            date     not null,
    -- Empty for refusals that name no tool.
    tool           text     not null,
    -- Of the first and the last event that added to it: what lies between them is all that a question about the past has to read.
    first_position bigint   not null check (first_position > 0),
    position       bigint   not null check (position >= first_position),
    requested      bigint   not null,
    succeeded      bigint   not null,
    failed         bigint   not null,
    cancelled      bigint   not null,
    cached         bigint   not null,
    attempts       bigint   not null,
    retries        bigint   not null,
    denied         bigint   not null,
    rate_limited   bigint   not null,
    bytes_in       bigint   not null,
    bytes_out      bigint   not null,
    duration_ms    bigint   not null,
    -- How many runs took how long, by fixed buckets that never change (docs/read-models.md); as long as its last bucket needs.
    latency        bigint[] not null,
    primary key (tenant_id, day, tool)
);

do $$
declare name text;
begin
    foreach name in array array['session', 'session_tool', 'usage_day'] loop
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

-- Where a time lies in a tenant's history, and what occurred on a day.
create index audit_event_occurred on audit_event (tenant_id, occurred_at, position);

-- What the calls of a session made.
create index document_call on document (tenant_id, call_id);
create index task_call on task (tenant_id, call_id);
