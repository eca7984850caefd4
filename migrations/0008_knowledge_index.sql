-- Full-text search through an index, under row-level security (docs/adr/0008-full-text-under-row-level-security.md).
--
-- `tsvector @@ tsquery` is not leakproof, so a condition of a query may not look into an index before the row policy has judged the
-- row. The policy's own conditions may. So the search is one: whoever reads knowledge_index says in the transaction's setting
-- app.search_query what it looks for, and sees its tenant's rows that match. Without the setting it sees none.

-- Where a text is from, for whoever cites it.
alter table knowledge_document add column source text;

create table knowledge_index (
    tenant_id     uuid        not null,
    document_id   text        not null,
    position      bigint      not null,
    search_config regconfig   not null,
    metadata      jsonb       not null,
    updated_at    timestamptz not null,
    -- The document's words, and keys that no text can hold, since each begins with a control character: 1 the tenant, 2 the
    -- configuration, 3 a word of the title, 4 the language and what it is a kind of, 5 how many bits of the position are left out
    -- and the rest of it, so that a search can ask for the newest documents alone.
    search_vector tsvector    not null,
    primary key (tenant_id, document_id),
    foreign key (tenant_id, document_id) references knowledge_document (tenant_id, document_id)
);
-- A common word matches many rows, of which few are ranked: without their vectors the rows are small.
alter table knowledge_index set (toast_tuple_target = 128);
alter table knowledge_index alter column search_vector set storage external;

alter table knowledge_index enable row level security;
alter table knowledge_index force row level security;

-- The tenant is part of what the index is asked, so that not even a plan's row counts tell of others.
create policy tenant_reads on knowledge_index for select to toolgate_reader
    using (
        tenant_id = (select nullif(current_setting('app.current_tenant', true), '')::uuid)
        and search_vector @@ (select quote_literal(chr(1) || nullif(current_setting('app.current_tenant', true), ''))::tsquery
            && nullif(current_setting('app.search_query', true), '')::tsquery)
    );
create policy projector_writes on knowledge_index to toolgate_projector using (true) with check (true);
grant select on knowledge_index to toolgate_reader;
grant select, insert, update on knowledge_index to toolgate_projector;

-- Of the same transaction as the document, whichever release's projector writes it.
create function index_knowledge_document() returns trigger
    language plpgsql
    set search_path = pg_catalog
    as $$
declare
    subtags text[] := string_to_array(lower(new.locale), '-');
    keys    text[] := array[chr(1) || new.tenant_id, chr(2) || new.search_config];
begin
    keys := keys || array(select chr(3) || word from unnest(tsvector_to_array(to_tsvector(new.search_config, new.title))) word);
    keys := keys || array(select chr(4) || array_to_string(subtags[:n], '-') from generate_series(1, cardinality(subtags)) n);
    keys := keys || array(select chr(5) || bits || ':' || (new.position >> bits) from unnest(array[10, 14, 18, 22]) bits);
    insert into public.knowledge_index (tenant_id, document_id, position, search_config, metadata, updated_at, search_vector)
    values (new.tenant_id, new.document_id, new.position, new.search_config, new.metadata, new.updated_at,
            new.search_vector || array_to_tsvector(keys))
    on conflict (tenant_id, document_id) do update
    set position = excluded.position, search_config = excluded.search_config, metadata = excluded.metadata,
        updated_at = excluded.updated_at, search_vector = excluded.search_vector;
    return null;
end
$$;
create trigger knowledge_document_index after insert or update on knowledge_document
    for each row execute function index_knowledge_document();

-- What was projected before. The owner has no policy of its own: it gets one for the length of this transaction, in which each
-- document is touched and so indexed.
do $$
begin
    execute format('create policy back_fill on knowledge_document to %I using (true) with check (true)', current_user);
    execute format('create policy back_fill on knowledge_index to %I using (true) with check (true)', current_user);
    update knowledge_document set position = position;
    drop policy back_fill on knowledge_document;
    drop policy back_fill on knowledge_index;
end
$$;

create index knowledge_index_words on knowledge_index using gin (search_vector);
-- Which configurations a tenant's documents have, and which documents are the newest.
create index knowledge_document_config on knowledge_document (tenant_id, search_config);
create index knowledge_document_newest on knowledge_document (tenant_id, position desc);
