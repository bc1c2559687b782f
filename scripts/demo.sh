#!/usr/bin/env bash
# The whole pipeline on simulated seasons, on the embedded engine and a local lake: what `make demo` runs.
# Its state is in .chpipe/demo, apart from the project's own lake and warehouse.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
SEASONS=${DEMO_SEASONS:-2021..2024}
STATE=$PWD/.chpipe/demo
mkdir -p "$STATE"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "chpipe $*"; "$CHPIPE" "$@"; }

echo 'Building chpipe (the first time takes some minutes, nearly all of it dependencies)'
$CARGO build --release
CHPIPE=$PWD/target/release/chpipe
run engine install

cat > "$STATE/env" <<EOF
# The demo's settings: \`source .chpipe/demo/env\` and every chpipe command works on the demo's data.
export CHPIPE_LAKE_PATH=$STATE/lake
export CHPIPE_WAREHOUSE_PATH=$STATE/warehouse
export CHPIPE_STATE_PATH=$STATE/state
export DBT_TARGET_PATH=$STATE/target
export CHPIPE_REQUESTS_PER_SECOND=2000
export CHPIPE_REQUESTS_PER_HOUR=10000000
export PATH=$PWD/target/release:\$PATH
EOF
# shellcheck disable=SC1091
source "$STATE/env"

say "chpipe simulate &   # an Ergast-compatible API on loopback; every page says it is simulated"
rm -f "$STATE/simulate.url"
"$CHPIPE" simulate --port 0 --no-throttle --url-file "$STATE/simulate.url" --quiet &
SIMULATE=$!
trap 'kill "$SIMULATE" 2>/dev/null || true' EXIT
for _ in $(seq 100); do [ -s "$STATE/simulate.url" ] && break; sleep 0.1; done
CHPIPE_SOURCE_URL=$(cat "$STATE/simulate.url")
export CHPIPE_SOURCE_URL
echo "serving $CHPIPE_SOURCE_URL"

# The first time whole seasons; after that what is new: the latest round and the standings.
if [ -e "$STATE/done" ]; then
    run extract --season "${SEASONS##*..}" --mode incremental
else
    run extract --season "$SEASONS"
fi
run transform
say "chpipe migrate   # the plan is in .chpipe/demo/migrate.txt"
"$CHPIPE" migrate > "$STATE/migrate.txt"
tail -n 2 "$STATE/migrate.txt"
run load
run build
touch "$STATE/done"

echo
echo 'A few answers from the gold tables (simulated drivers, simulated teams):'
scripts/gold.sh "$CHPIPE" champions team_points fastest_laps

cat <<EOF

Done. Bronze and Silver are in .chpipe/demo/lake, the warehouse in .chpipe/demo/warehouse. To look around:
  source .chpipe/demo/env
  chpipe query "select * from f1.agg_driver_season_stats order by season desc, total_points desc limit 10"
  chpipe ls --resource-type model                 # the models
  chpipe build --select stg_results+              # one model and all that depends on it
  chpipe snapshot && chpipe test                  # each step also works alone
  chpipe serve                                    # ClickHouse's HTTP interface and S3 on loopback, for any client
With the network, the real API needs no other setting:
  chpipe extract --season 2024 && chpipe transform && chpipe migrate && chpipe load && chpipe build
EOF
