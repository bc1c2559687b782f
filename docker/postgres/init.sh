#!/usr/bin/env bash
# A database and a user each for Airflow and Superset; runs once, on an empty volume.
set -euo pipefail
for name in airflow superset; do
    variable=$(printf '%s_DB_PASSWORD' "$name" | tr '[:lower:]' '[:upper:]')
    psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --set name="$name" --set password="${!variable}" <<'SQL'
create user :"name" with password :'password';
create database :"name" owner :"name";
SQL
done
