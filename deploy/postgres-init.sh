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
SQL
