#!/usr/bin/env bash
# scrape.sh WORK: `chpipe metrics` against a built warehouse: documented, scraped by a real Prometheus, pushed to a file, a
# Pushgateway and an OTLP receiver; the audit trail has every command that changed the warehouse.
set -euo pipefail
trap 'echo "$0:$LINENO: failed: $BASH_COMMAND" >&2' ERR
cd "$(dirname "$0")/../.."
work=$1
debian=$PWD/.cache/debian/usr/bin
tools=$(scripts/python-env.sh tools)
root=$PWD
# shellcheck source=tests/production/pipeline.sh
source tests/production/pipeline.sh "$work/built"
chpipe() { "$CHPIPE_BIN" --project-dir "$project" --target dev "$@"; }

chpipe metrics > "$work/metrics.txt"
"$debian/promtool" check metrics < "$work/metrics.txt"
"$tools/bin/python" tests/production/check_samples.py "$work/metrics.txt"

started=()
# Waits, so that nothing writes into the folder while it is removed.
cleanup() { for pid in "${started[@]:-}"; do [ -z "$pid" ] || { kill "$pid" 2> /dev/null && wait "$pid" || true; }; done; }
trap cleanup EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { for _ in $(seq 300); do curl -fsS "$1" > "$work/answer" 2> /dev/null && return 0; sleep 0.2; done; echo "$1 does not answer" >&2; return 1; }

# start_on_free_port PATH PROGRAM ARGUMENT...: PORT in the arguments is one that was free; another one, where somebody else was faster.
# Answers with $port once PATH is served there.
start_on_free_port() {
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        "${@:2:1}" "${@:3}" "--web.listen-address=127.0.0.1:$port" > "$work/${2##*/}.log" 2>&1 &
        local pid=$!
        while kill -0 "$pid" 2> /dev/null; do
            if curl -fsS "http://127.0.0.1:$port$1" > /dev/null 2>&1 && kill -0 "$pid" 2> /dev/null; then
                started+=("$pid")
                return 0
            fi
            sleep 0.2
        done
    done
    tail -n 5 "$work/${2##*/}.log" >&2
    return 1
}

"$CHPIPE_BIN" --project-dir "$project" --target dev metrics --listen 127.0.0.1:0 > "$work/listen.log" 2>&1 &
started+=("$!")
for _ in $(seq 600); do metrics=$(sed -n 's#^metrics on http://\(.*\)/metrics$#\1#p' "$work/listen.log"); [ -n "$metrics" ] && break; sleep 0.1; done
wait_for "http://$metrics/health"

# The stack's own rules and intervals, with this address in place of the services'.
sed -e "s#chpipe-metrics:9105#$metrics#; s#scrape_interval: .*#scrape_interval: 10s#; s#scrape_timeout: .*#scrape_timeout: 10s#; s#evaluation_interval: .*#evaluation_interval: 1s#" \
    -e "s#rules/\*.yml#$root/docker/prometheus/rules/*.yml#" -e '/^alerting:/,/^$/d' -e '/job_name: airflow/,$d' \
    docker/prometheus/prometheus.yml > "$work/prometheus.yml"
start_on_free_port /-/ready "$debian/prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --log.level=warn
prometheus=$port
ask() { curl -fsS --get "http://127.0.0.1:$prometheus/api/v1/query" --data-urlencode "query=$1" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["data"]["result"]))'; }
for _ in $(seq 600); do [ "$(ask 'up{job="chpipe"} == 1')" = 1 ] && break; sleep 0.3; done
for query in 'chpipe_info' 'api_rate_limit_remaining >= 0' 'sum(clickhouse_query_duration_seconds_count) > 100' 'chpipe_last_run_timestamp_seconds{command="build", outcome="success"}'; do
    for _ in $(seq 400); do [ "$(ask "$query")" = 1 ] && continue 2; sleep 0.3; done
    { echo "Prometheus has nothing for $query" >&2; tail -n 5 "$work/prometheus.log" >&2; exit 1; }
done
[ "$(ask 'ALERTS{alertname=~"CommandFailed|DataTestFailed|MigrationStuck|RoundMissing|SchemaDrift"}')" = 0 ] || { echo 'an alert fires on good data' >&2; exit 1; }

# A scrape gives the embedded warehouse back; while another process has it, the figures are those of the last one.
kill "${started[1]}" && wait "${started[1]}" || true
wait_for "http://$metrics/metrics"
read_at=$(grep '^chpipe_warehouse_read_timestamp_seconds ' "$work/answer")
flock --timeout 120 "$CHPIPE_WAREHOUSE_PATH/chpipe.lock" curl -fsS "http://$metrics/metrics" > "$work/answer"
grep -qx "$read_at" "$work/answer"
cleanup
started=()

start_on_free_port /-/ready "$debian/prometheus-pushgateway"
gateway=$port
"$tools/bin/python" tests/production/otlp_receiver.py "$work/otlp.url" > "$work/otlp.txt" 2> "$work/otlp.log" &
receiver=$!
started+=("$receiver")
for _ in $(seq 600); do [ -s "$work/otlp.url" ] && break; sleep 0.1; done
cp "$project/chpipe.toml" "$work/chpipe.toml"
printf '\n[metrics]\ntextfile = "%s"\npushgateway = "http://127.0.0.1:%s"\notlp = "%s"\n' \
    "$work/chpipe.prom" "$gateway" "$(cat "$work/otlp.url")" >> "$project/chpipe.toml"
chpipe --quiet test --select stg_status
grep -q '^chpipe_info' "$work/chpipe.prom"
[ ! -e "$work/chpipe_lake.prom" ]
wait_for "http://127.0.0.1:$gateway/metrics"
grep -q '^chpipe_runs_total{command="test",.*job="chpipe",outcome="success"} 1' "$work/answer"
wait "$receiver" || { cat "$work/otlp.log" >&2; exit 1; }
grep -q '^clickhouse_query_duration_seconds histogram' "$work/otlp.txt"
grep -q '^chpipe_rows_total sum' "$work/otlp.txt"
# Extract and transform publish what they did themselves, each part of the metrics in its own place.
flock --timeout 120 "$CHPIPE_WAREHOUSE_PATH/chpipe.lock" "$CHPIPE_BIN" --project-dir "$project" --quiet transform --endpoint status 2> /dev/null
cat "$work/chpipe.prom" "$work/chpipe_lake.prom" > "$work/both.txt"
"$tools/bin/python" tests/production/check_samples.py "$work/both.txt"
wait_for "http://127.0.0.1:$gateway/metrics"
grep -q '^chpipe_runs_total{command="transform",.*job="chpipe",outcome="success",part="lake"} 4' "$work/answer"
# Metrics that cannot be sent are a warning: the run itself, and its audit row, are there.
chpipe --quiet seed 2> "$work/unsent.log"
grep -q 'the metrics of this run were not sent: cannot send the metrics to' "$work/unsent.log"
cp "$work/chpipe.toml" "$project/chpipe.toml"

# Whatever changed the warehouse is in the audit trail with who, when and which commit; what only read is not.
chpipe --quiet parse --target-path "$project/state"
chpipe --quiet clone --state "$project/state" --select dim_circuits
chpipe --quiet run-operation noted
chpipe query 'select 1' > /dev/null
chpipe query 'create view f1.passing as select 1'
audited=$(chpipe query --format TSV "select arrayStringConcat(arraySort(groupUniqArray(toString(command))), ' ') from chpipe.runs")
[ "$audited" = 'backfill build clone extract load migrate query run-operation seed test transform' ] || { echo "audited: $audited" >&2; exit 1; }
audited=$(chpipe query --format TSV "select count() from chpipe.runs final where command = 'query'")
[ "$audited" = 1 ] || { echo "$audited queries are audited" >&2; exit 1; }
# Two transformations by themselves, and the two of the backfill (static endpoints, season 2024).
audited=$(chpipe query --format TSV "select count(), countIf(JSONExtractString(record, 'user') != '') from chpipe.runs final where command = 'transform'")
[ "$audited" = $'4\t4' ] || { echo "transformations in the audit trail: $audited" >&2; exit 1; }
lost=$(chpipe query --format TSV "select (select sum(rows) from chpipe.events final where event = 'transform') - (select sum(rows) from raw.batches final)")
[ "$lost" = 0 ] || { echo "rows that transform made less those that were loaded: $lost" >&2; exit 1; }

key=$(chpipe query --format TSV "select concat('season=', season, ' round=', round, ' driver_id=', driver_id) from f1.fact_race_results where season = 2023 and round = 5 limit 1")
# shellcheck disable=SC2086
chpipe lineage fact_race_results --key $key > "$work/lineage.txt"
grep -q 'bronze/ergast/endpoint=results/season=2023/round=05/.*/2023/5/results' "$work/lineage.txt"
echo 'metrics: documented, scraped by Prometheus, pushed by a run to a file, a Pushgateway and as OTLP; a row is traced to its source URL'
