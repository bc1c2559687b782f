#!/usr/bin/env bash
# scrape.sh WORK: `chpipe metrics` against a built warehouse: documented, scraped by a real Prometheus, pushed to a Pushgateway and a file.
set -euo pipefail
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

port=$(free_port) prometheus=$(free_port) gateway=$(free_port)
"$CHPIPE_BIN" --project-dir "$project" --target dev metrics --listen "127.0.0.1:$port" > "$work/listen.log" 2>&1 &
started+=("$!")
wait_for "http://127.0.0.1:$port/health"

# The stack's own rules and intervals, with this address in place of the services'.
sed -e "s#chpipe-metrics:9105#127.0.0.1:$port#; s#scrape_interval: .*#scrape_interval: 10s#; s#scrape_timeout: .*#scrape_timeout: 10s#; s#evaluation_interval: .*#evaluation_interval: 1s#" \
    -e "s#rules/\*.yml#$root/docker/prometheus/rules/*.yml#" -e '/^alerting:/,/^$/d' -e '/job_name: airflow/,$d' \
    docker/prometheus/prometheus.yml > "$work/prometheus.yml"
"$debian/prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="127.0.0.1:$prometheus" --log.level=warn > "$work/prometheus.log" 2>&1 &
started+=("$!")
wait_for "http://127.0.0.1:$prometheus/-/ready"
ask() { curl -fsS --get "http://127.0.0.1:$prometheus/api/v1/query" --data-urlencode "query=$1" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["data"]["result"]))'; }
for _ in $(seq 600); do [ "$(ask 'up{job="chpipe"} == 1')" = 1 ] && break; sleep 0.3; done
for query in 'chpipe_info' 'api_rate_limit_remaining >= 0' 'sum(clickhouse_query_duration_seconds_count) > 100' 'chpipe_last_run_timestamp_seconds{command="build", outcome="success"}'; do
    for _ in $(seq 400); do [ "$(ask "$query")" = 1 ] && continue 2; sleep 0.3; done
    { echo "Prometheus has nothing for $query" >&2; tail -n 5 "$work/prometheus.log" >&2; exit 1; }
done
[ "$(ask 'ALERTS{alertname=~"CommandFailed|DataTestFailed|MigrationStuck|RoundMissing|SchemaDrift"}')" = 0 ] || { echo 'an alert fires on good data' >&2; exit 1; }

if [ -x "$debian/prometheus-pushgateway" ]; then
    "$debian/prometheus-pushgateway" --web.listen-address="127.0.0.1:$gateway" > "$work/gateway.log" 2>&1 &
    started+=("$!")
    wait_for "http://127.0.0.1:$gateway/-/ready"
    printf '\n[metrics]\ntextfile = "%s"\npushgateway = "http://127.0.0.1:%s"\n' "$work/chpipe.prom" "$gateway" >> "$project/chpipe.toml"
    chpipe --quiet test --select stg_status
    grep -q '^chpipe_info' "$work/chpipe.prom"
    wait_for "http://127.0.0.1:$gateway/metrics"
    grep -q '^chpipe_runs_total{command="test",.*job="chpipe",outcome="success"} 1' "$work/answer"
fi

key=$(chpipe query --format TSV "select concat('season=', season, ' round=', round, ' driver_id=', driver_id) from f1.fact_race_results where season = 2023 and round = 5 limit 1")
# shellcheck disable=SC2086
chpipe lineage fact_race_results --key $key > "$work/lineage.txt"
grep -q 'bronze/ergast/endpoint=results/season=2023/round=05/.*/2023/5/results' "$work/lineage.txt"
echo 'metrics: documented, scraped by Prometheus, pushed by a run; a row is traced to its source URL'
