#!/usr/bin/env bash
# superset.sh WORK: the bundle in a real Superset, over the embedded warehouse behind `chpipe serve`; each chart's query runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
venv=$(scripts/python-env.sh superset)
# shellcheck source=tests/production/pipeline.sh
source tests/production/pipeline.sh "$work/superset_project"

export CHPIPE_SERVE_USER=bi CHPIPE_SERVE_PASSWORD=served
"$CHPIPE_BIN" --project-dir "$project" --target dev serve --port 0 --s3-port 0 > "$work/serve.log" 2>&1 &
served=$!
trap 'kill "$served" 2> /dev/null || true' EXIT
for _ in $(seq 150); do port=$(sed -n 's#.*http://127.0.0.1:\([0-9]*\)/.*#\1#p' "$work/serve.log" | head -n 1); [ -n "$port" ] && break; sleep 0.1; done
[ -n "$port" ] || { cat "$work/serve.log" >&2; exit 1; }

export SUPERSET_HOME=$work/superset PYTHONPATH=$PWD/docker/superset FLASK_APP=superset
export SUPERSET_SECRET_KEY=of-the-test-of-the-test-of-the-test-of-the-test
export SUPERSET_METADATA_URI=sqlite:///$work/superset/metadata.db
mkdir -p "$SUPERSET_HOME"
quietly() { "$@" > "$work/superset.log" 2>&1 || { tail -n 30 "$work/superset.log" >&2; echo "$* failed" >&2; exit 1; }; }
superset=$venv/bin/superset
quietly "$superset" db upgrade
quietly "$superset" fab create-admin --username admin --password admin-of-the-test --firstname A --lastname B --email admin@localhost
quietly "$superset" init
"$venv/bin/python" superset/bundle.py --uri "clickhousedb://bi:served@127.0.0.1:$port/f1" --output "$work/f1_dashboards.zip"
quietly "$superset" import-dashboards --path "$work/f1_dashboards.zip" --username admin
quietly "$superset" set-database-uri --database_name 'F1 warehouse' --uri "clickhousedb://bi:served@127.0.0.1:$port/f1"
# Again: what was imported is replaced, not doubled.
quietly "$superset" import-dashboards --path "$work/f1_dashboards.zip" --username admin
"$venv/bin/python" tests/production/superset_check.py superset 2> "$work/check.log" || { tail -n 40 "$work/check.log" >&2; exit 1; }
