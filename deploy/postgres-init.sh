#!/bin/bash
# Runs once, when the database is first created: the login roles and the database that the owner migrates.
set -euo pipefail

# The variables are read by psql, which quotes them; a password may hold any character.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv reader_password POSTGRES_READER_PASSWORD
\getenv projector_password POSTGRES_PROJECTOR_PASSWORD

-- None of them may pass by row-level security.
create role toolgate_owner login nosuperuser nobypassrls nocreaterole noreplication nocreatedb password :'owner_password';
create role toolgate_reader login nosuperuser nobypassrls nocreaterole noreplication nocreatedb password :'reader_password';
create role toolgate_projector login nosuperuser nobypassrls nocreaterole noreplication nocreatedb password :'projector_password';

create database toolgate owner toolgate_owner;
revoke connect, temporary on database postgres from public;

\connect toolgate
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
SQL
