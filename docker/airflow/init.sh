#!/usr/bin/env bash
# Airflow's tables, first user and the pool for the API's quota. Repeating it is harmless.
set -euo pipefail
airflow db migrate
airflow users create --role Admin --username "$AIRFLOW_ADMIN_USER" --password "$AIRFLOW_ADMIN_PASSWORD" \
    --firstname F1 --lastname Admin --email "$AIRFLOW_ADMIN_USER@localhost"
# One slot: two tasks that ask the API at once would only wait for each other.
airflow pools set "$CHPIPE_API_POOL" 1 'Tasks that ask the API; its quota is shared'
