#!/usr/bin/env bash
# airflow.sh WORK: the DAGs under the real Airflow, against the simulated API and the embedded warehouse.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
root=$PWD
three=$(scripts/python-env.sh airflow3)
two=$(scripts/python-env.sh airflow2)
if ! "$CHPIPE_BIN" --help | grep -q '^  simulate'; then
    echo "$CHPIPE_BIN has no simulate" >&2
    exit 1
fi

# The project, with its lake, warehouse and artifacts, in a folder of its own; chpipe under that name on PATH.
project=$work/project
mkdir -p "$project/tests" "$work/bin"
cp -r dbt_project.yml profiles.yml models snapshots macros seeds "$project/"
cp -r tests/f1 "$project/tests/"
[ ! -d ddl ] || cp -r ddl "$project/"
# Two attempts a request, so that a broken API fails the task and not only the request.
sed 's/^\[source\]$/[source]\nmax_attempts = 2/' chpipe.toml > "$project/chpipe.toml"
ln -sf "$CHPIPE_BIN" "$work/bin/chpipe"

export PATH=$work/bin:$PATH PYTHONPATH=$root/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__DAGS_FOLDER=$root/airflow/dags
export AIRFLOW__CORE__UNIT_TEST_MODE=False AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS=False
export CHPIPE_API_POOL=ergast_api CHPIPE_PROJECT_DIR=$project
export CHPIPE_LAKE_PATH=$project/.chpipe/lake CHPIPE_WAREHOUSE_PATH=$project/.chpipe/warehouse CHPIPE_STATE_PATH=$project/.chpipe/state
export CHPIPE_REQUESTS_PER_SECOND=2000 CHPIPE_REQUESTS_PER_HOUR=10000000
export CHPIPE_TASK_RETRIES=3 CHPIPE_TASK_RETRY_SECONDS=1

started=()
cleanup() { for pid in "${started[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2> /dev/null || true; done; }
trap cleanup EXIT

# simulate PORT ARGUMENT...: starts the API; its URL in CHPIPE_SOURCE_URL, its process in $api.
simulate() {
    rm -f "$work/url"
    "$CHPIPE_BIN" simulate --port "$1" --seasons 2021..2024 --lap-scale 0.1 --no-throttle --quiet --url-file "$work/url" "${@:2}" > "$work/simulate.log" 2>&1 &
    api=$!
    started+=("$api")
    for _ in $(seq 100); do [ -s "$work/url" ] && break; sleep 0.1; done
    CHPIPE_SOURCE_URL=$(cat "$work/url")
    export CHPIPE_SOURCE_URL
}

# dag_test LOG ARGUMENT...: a DAG to its end; fails unless it succeeded.
dag_test() {
    local log=$work/$1.log
    shift
    # The deadline is checked by check_dags.py; `dags test` cannot take it.
    if ! CHPIPE_DEADLINES=off timeout 900 "$three/bin/airflow" dags test "$@" > "$log" 2>&1 || grep -q '^DagRun failed' "$log"; then
        grep -vE 'task_instances\]|No tasks to run' "$log" | cut -c1-250 | tail -n 25 >&2
        echo "airflow dags test $* failed" >&2
        return 1
    fi
}

rows() { "$CHPIPE_BIN" --project-dir "$project" --target dev query --format TSV "$1"; }

expect() {
    if [ "$2" != "$3" ]; then
        echo "$1: expected $2, got $3" >&2
        exit 1
    fi
}

for version in "$two" "$three"; do
    export AIRFLOW_HOME=$work/$(basename "$version")
    mkdir -p "$AIRFLOW_HOME"
    "$version/bin/airflow" db migrate > "$AIRFLOW_HOME/migrate.log" 2>&1 || { cat "$AIRFLOW_HOME/migrate.log" >&2; exit 1; }
    "$version/bin/python" tests/production/check_dags.py 2> "$AIRFLOW_HOME/parse.log" || { cat "$AIRFLOW_HOME/parse.log" >&2; exit 1; }
done
"$three/bin/airflow" pools set ergast_api 1 'API' > /dev/null 2>&1

echo '-- a killed task leaves no process and no query behind'
AIRFLOW__CORE__DAGS_FOLDER=$root/tests/production/dags "$three/bin/airflow" dags test --dagfile-path "$root/tests/production/dags/kill_me.py" kill_me > "$work/kill.log" 2>&1 &
killed=$!
for _ in $(seq 300); do child=$(pgrep -f "^$work/bin/chpipe query" || true); [ -n "$child" ] && break; sleep 0.1; done
[ -n "$child" ] || { tail -n 30 "$work/kill.log" >&2; exit 1; }
sleep 1
kill -TERM "$killed"
wait "$killed" || true
expect 'processes of the killed task' '' "$(pgrep -f "^$work/bin/chpipe query" || true)"
grep -q 'chpipe query ended with code' "$work/kill.log"

echo '-- f1_backfill_pipeline, two seasons'
simulate 0
dag_test backfill f1_backfill_pipeline 2024-01-15 --conf '{"from_season": 2022, "to_season": 2023}'
expect 'seasons in fact_race_results' '2022,2023' "$(rows "select arrayStringConcat(arraySort(groupUniqArray(toString(season))), ',') from f1.fact_race_results")"
before=$(rows 'select count() from f1.fact_race_results')
kill "$api"

echo '-- f1_incremental, with an API that is broken at first'
simulate 0 --fault 503:1
port=$(sed 's#.*:\([0-9]*\)/.*#\1#' "$work/url")
broken=$api
# As soon as Airflow has put the task up for retry, the API works again, under the same address.
(
    for _ in $(seq 600); do grep -qs 'new_state=up_for_retry' "$work/incremental.log" && break; sleep 0.1; done
    kill "$broken"
    while kill -0 "$broken" 2> /dev/null; do sleep 0.05; done
    exec "$CHPIPE_BIN" simulate --port "$port" --seasons 2021..2024 --lap-scale 0.1 --no-throttle --quiet > "$work/simulate.log" 2>&1
) &
started+=("$!")
dag_test incremental f1_incremental 2024-09-15
grep -q 'new_state=up_for_retry' "$work/incremental.log"
expect 'new rounds of 2024 in fact_race_results' 1 "$(rows 'select count(distinct round) from f1.fact_race_results where season = 2024')"
expect 'rows of earlier seasons' "$before" "$(rows 'select count() from f1.fact_race_results where season < 2024')"
expect 'batch ids of the run' '20240915T000000' "$(rows "select distinct batch_id from raw.raw_results where season = 2024")"
expect 'artifacts of the tests' 1 "$(find "$project/.chpipe/airflow/f1_incremental" -path '*/test/run_results.json' | wc -l)"

echo '-- one task per model, from the manifest'
"$CHPIPE_BIN" --project-dir "$project" --target dev parse --target-path "$work/manifest" > /dev/null
export CHPIPE_TEST_MANIFEST=$work/manifest/manifest.json
AIRFLOW__CORE__DAGS_FOLDER=$root/tests/production/dags dag_test models --dagfile-path "$root/tests/production/dags/f1_models.py" f1_models

echo '-- astronomer-cosmos with chpipe as its dbt'
AIRFLOW__CORE__DAGS_FOLDER=$root/tests/production/dags dag_test cosmos --dagfile-path "$root/tests/production/dags/f1_cosmos.py" f1_cosmos
grep -q 'stg_circuits' "$work/cosmos.log"

echo 'Airflow: parsed on 2.10 and 3, backfill, incremental with a fault retried, killed task, task per model, cosmos'
