#!/usr/bin/env bash
# airflow.sh WORK: the DAGs under the real Airflow, against the simulated API and the embedded warehouse.
set -euo pipefail
trap 'echo "$0:$LINENO: failed: $BASH_COMMAND" >&2' ERR
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
# Nobody is told that the tests ran.
export SCARF_NO_ANALYTICS=true DO_NOT_TRACK=1
export CHPIPE_API_POOL=ergast_api CHPIPE_PROJECT_DIR=$project
export CHPIPE_LAKE_PATH=$project/.chpipe/lake CHPIPE_WAREHOUSE_PATH=$project/.chpipe/warehouse CHPIPE_STATE_PATH=$project/.chpipe/state
export CHPIPE_REQUESTS_PER_SECOND=2000 CHPIPE_REQUESTS_PER_HOUR=10000000
export CHPIPE_TASK_RETRIES=3 CHPIPE_TASK_RETRY_SECONDS=1

started=()
# Waits, so that nothing writes into the folder while it is removed.
cleanup() { for pid in "${started[@]:-}"; do [ -z "$pid" ] || { kill "$pid" 2> /dev/null && wait "$pid" || true; }; done; }
trap cleanup EXIT
step() { printf -- '-- %s (%ss)\n' "$1" "$SECONDS"; }
# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() { for _ in $(seq $(($1 * 10))); do "${@:2}" && return 0; sleep 0.1; done; echo "after $1 s still not: ${*:2}" >&2; return 1; }

# simulate ARGUMENT...: starts the API; its URL in CHPIPE_SOURCE_URL, its process in $api.
simulate() {
    rm -f "$work/url"
    "$CHPIPE_BIN" simulate --port 0 --seasons 2021..2024 --lap-scale 0.1 --no-throttle --quiet --url-file "$work/url" "$@" > "$work/simulate.log" 2>&1 &
    api=$!
    started+=("$api")
    wait_for 60 test -s "$work/url"
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

step 'a killed task leaves no process and no query behind'
# Behind serve, the query runs in another process than the task's, so that ending the task alone would not end it.
"$CHPIPE_BIN" --project-dir "$project" --target dev serve --port 0 --s3-port 0 > "$work/serve.log" 2>&1 &
served=$!
started+=("$served")
wait_for 60 grep -q 'http://127.0.0.1' "$work/serve.log"
slow_queries() { rows "select count() from system.processes where query like '%cityHash64(number)%' and query not like '%system.processes%'"; }
is_running() { [ "$(slow_queries)" = 1 ]; }
no_process() { ! pgrep -f "^$work/bin/chpipe query" > /dev/null; }
AIRFLOW__CORE__DAGS_FOLDER=$root/tests/production/dags "$three/bin/airflow" dags test --dagfile-path "$root/tests/production/dags/kill_me.py" kill_me > "$work/kill.log" 2>&1 &
killed=$!
started+=("$killed")
wait_for 180 is_running || { tail -n 30 "$work/kill.log" >&2; exit 1; }
kill -TERM "$killed"
wait "$killed" || true
wait_for 30 no_process
expect 'queries of the killed task' 0 "$(slow_queries)"
grep -q 'chpipe query ended with code' "$work/kill.log"
kill "$served"
wait "$served" || true

step 'f1_backfill_pipeline, two seasons'
simulate
dag_test backfill f1_backfill_pipeline 2024-01-15 --conf '{"from_season": 2022, "to_season": 2023}'
expect 'seasons in fact_race_results' '2022,2023' "$(rows "select arrayStringConcat(arraySort(groupUniqArray(toString(season))), ',') from f1.fact_race_results")"
before=$(rows 'select count() from f1.fact_race_results')
kill "$api"

step 'f1_incremental, with an API that is broken at first'
# One attempt of a request more than the three listings of the first task can lose without failing it.
simulate --fault 503:1 --fault-requests 4
dag_test incremental f1_incremental 2024-09-15
grep -q 'new_state=up_for_retry' "$work/incremental.log"
expect 'new rounds of 2024 in fact_race_results' 1 "$(rows 'select count(distinct round) from f1.fact_race_results where season = 2024')"
expect 'rows of earlier seasons' "$before" "$(rows 'select count() from f1.fact_race_results where season < 2024')"
expect 'batch ids of the run' '20240915T000000' "$(rows "select distinct batch_id from raw.raw_results where season = 2024")"
expect 'artifacts of the tests' 1 "$(find "$project/.chpipe/airflow/f1_incremental" -path '*/test/run_results.json' | wc -l)"

step 'the same run again, as after a clear: nothing is doubled and nothing is asked again'
loaded=$(rows 'select count(), sum(rows) from raw.batches final')
dag_test again f1_incremental 2024-09-15
expect 'loaded batches' "$loaded" "$(rows 'select count(), sum(rows) from raw.batches final')"
expect 'rows of earlier seasons' "$before" "$(rows 'select count() from f1.fact_race_results where season < 2024')"
# The task of the tests tells the next ones what came of each node.
PYTHONPATH=$root/airflow "$three/bin/python" tests/production/check_xcom.py f1_incremental

step 'one task per model, from the manifest'
"$CHPIPE_BIN" --project-dir "$project" --target dev parse --target-path "$work/manifest" > /dev/null
export CHPIPE_TEST_MANIFEST=$work/manifest/manifest.json
AIRFLOW__CORE__DAGS_FOLDER=$root/tests/production/dags dag_test models --dagfile-path "$root/tests/production/dags/f1_models.py" f1_models

step 'astronomer-cosmos with chpipe as its dbt'
AIRFLOW__CORE__DAGS_FOLDER=$root/tests/production/dags dag_test cosmos --dagfile-path "$root/tests/production/dags/f1_cosmos.py" f1_cosmos
grep -q 'chpipe.*run.*stg_circuits' "$work/cosmos.log"

step 'done'
echo 'Airflow: parsed on 2.10 and 3, backfill, incremental with a fault retried, rerun, killed task, task per model, cosmos'
