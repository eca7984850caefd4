-- What PostgreSQL lets any login do beside the tables, in one database. Run by a superuser: these functions are its own.

-- Large objects are no table's, so no policy covers them.
do $$
declare name regprocedure;
begin
    for name in
        select oid::regprocedure from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and (proname like 'lo\_%' or proname in ('loread', 'lowrite'))
    loop
        execute format('revoke execute on function %s from public', name);
    end loop;
end
$$;
