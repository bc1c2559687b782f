#!/usr/bin/env bash
# superset.sh WORK: the bundle in a real Superset, over the embedded warehouse behind `chpipe serve`; each chart's query runs.
set -euo pipefail
trap 'echo "$0:$LINENO: failed: $BASH_COMMAND" >&2' ERR
cd "$(dirname "$0")/../.."
work=$1
venv=$(scripts/python-env.sh superset)
# shellcheck source=tests/production/pipeline.sh
source tests/production/pipeline.sh "$work/built"

export CHPIPE_SERVE_USER=bi CHPIPE_SERVE_PASSWORD=served
"$CHPIPE_BIN" --project-dir "$project" --target dev serve --port 0 --s3-port 0 > "$work/serve.log" 2>&1 &
served=$!
# Waits, so that nothing writes into the folder while it is removed.
trap 'kill "$served" 2> /dev/null && wait "$served" || true' EXIT
for _ in $(seq 600); do port=$(sed -n 's#.*http://127.0.0.1:\([0-9]*\)/.*#\1#p' "$work/serve.log" | head -n 1); [ -n "$port" ] && break; sleep 0.1; done
[ -n "$port" ] || { cat "$work/serve.log" >&2; exit 1; }

export SUPERSET_HOME=$work/superset PYTHONPATH=$PWD/docker/superset FLASK_APP=superset
export SUPERSET_SECRET_KEY=of-the-test-of-the-test-of-the-test-of-the-test
export SUPERSET_METADATA_URI=sqlite:///$work/superset/metadata.db
mkdir -p "$SUPERSET_HOME"
uri="clickhousedb://bi:served@127.0.0.1:$port/f1"
"$venv/bin/python" superset/bundle.py --uri "$uri" --output "$work/f1_dashboards.zip"
"$venv/bin/python" tests/production/superset_check.py superset "$work/f1_dashboards.zip" "$uri" 2> "$work/check.log" || { tail -n 40 "$work/check.log" >&2; exit 1; }
