#!/usr/bin/env bash
# Superset's tables, first user and the F1 dashboards. Repeating it brings the dashboards back to what superset/ says.
set -euo pipefail
superset db upgrade
superset fab create-admin --username "$SUPERSET_ADMIN_USER" --password "$SUPERSET_ADMIN_PASSWORD" \
    --firstname F1 --lastname Admin --email "$SUPERSET_ADMIN_USER@localhost"
superset init
python /app/f1/bundle.py --uri "$SUPERSET_WAREHOUSE_URI" --output /tmp/f1_dashboards.zip
superset import-dashboards --path /tmp/f1_dashboards.zip --username "$SUPERSET_ADMIN_USER"
# An import leaves a database that is there as it is, so a rotated password needs this.
superset set-database-uri --database_name 'F1 warehouse' --uri "$SUPERSET_WAREHOUSE_URI"
