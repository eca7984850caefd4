-- The two runtime roles and the one way a connection says whose rows it may see.
-- The roles own nothing: migrations run as the owner, and neither role can bypass row-level security.

do $$
begin
    if not exists (select from pg_roles where rolname = 'toolgate_reader') then
        create role toolgate_reader nologin;
    end if;
    if not exists (select from pg_roles where rolname = 'toolgate_projector') then
        create role toolgate_projector nologin;
    end if;
end
$$;

revoke all on schema public from public;
grant usage on schema public to toolgate_reader, toolgate_projector;

-- Transaction-local, so that nothing survives on a pooled connection. plpgsql keeps its plan for the session; a function in SQL
-- would be planned again for every transaction.
create function set_tenant(tenant uuid) returns void
    language plpgsql
    set search_path = pg_catalog
    as $$ begin perform set_config('app.current_tenant', tenant::text, true); end $$;
revoke all on function set_tenant(uuid) from public;
grant execute on function set_tenant(uuid) to toolgate_reader;
