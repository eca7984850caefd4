-- What PostgreSQL gives to everybody unasked is taken away, and what a later migration creates is nobody's until it is granted.

-- A temporary object outlives its transaction on a pooled connection, and a temporary function would be the reader's own code.
do $$
begin
    execute format('revoke create, temporary on database %I from public', current_database());
end
$$;

-- Of the schema the roles have the use, not the shaping.
revoke create on schema public from public, toolgate_reader, toolgate_projector;

-- A function may be called by everybody unless somebody says otherwise: from now on by nobody.
revoke execute on all functions in schema public from public;
alter default privileges revoke execute on functions from public;
alter default privileges revoke usage on types from public;

-- A forgotten tenant is an error, and not a transaction that finds nothing.
create or replace function set_tenant(tenant uuid) returns void
    language plpgsql
    set search_path = pg_catalog
    as $$
begin
    if tenant is null then
        raise exception 'a transaction needs a tenant' using errcode = 'null_value_not_allowed';
    end if;
    perform set_config('app.current_tenant', tenant::text, true);
end
$$;
