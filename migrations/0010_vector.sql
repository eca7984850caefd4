-- The vectors that vector.upsert keeps, and what all vectors of a collection have in common.
-- A collection is as its first vectors in the tenant's order made it; a later position replaces an item.

create table vector_collection (
    tenant_id  uuid        not null,
    collection text        not null,
    dimensions integer     not null check (dimensions between 1 and 2000),
    call_id    uuid        not null,
    created_at timestamptz not null,
    position   bigint      not null,
    primary key (tenant_id, collection),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);

create table vector_item (
    tenant_id     uuid        not null,
    collection    text        not null,
    item_id       text        not null,
    call_id       uuid        not null,
    embedding     real[]      not null,
    metadata      jsonb       not null default '{}',
    search_vector tsvector,
    updated_at    timestamptz not null,
    position      bigint      not null,
    primary key (tenant_id, collection, item_id),
    foreign key (tenant_id, collection) references vector_collection (tenant_id, collection),
    foreign key (tenant_id, call_id) references tool_call (tenant_id, call_id)
);
-- Such numbers do not get smaller by compression, and every search reads all of them.
alter table vector_item alter column embedding set storage external;

do $$
declare name text;
begin
    foreach name in array array['vector_collection', 'vector_item'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format(
            $policy$create policy tenant_reads on %I for select to toolgate_reader
                using (tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid))$policy$, name);
        execute format('create policy projector_writes on %I to toolgate_projector using (true) with check (true)', name);
        execute format('grant select on %I to toolgate_reader', name);
        execute format('grant select, insert on %I to toolgate_projector', name);
    end loop;
end
$$;
grant update on vector_item to toolgate_projector;

-- Where the server has pgvector and the owner may create it, searches compare in the database. Nothing stored depends on it: an
-- operator may create it later, in any schema that the reader may use, or drop it.
do $$
begin
    if exists (select from pg_available_extensions where name = 'vector' and installed_version is null) then
        create schema pgvector;
        create extension vector with schema pgvector;
        grant usage on schema pgvector to toolgate_reader;
    end if;
exception when others then
    raise notice 'searches compare in the workers, because pgvector cannot be created: %', sqlerrm;
end
$$;
