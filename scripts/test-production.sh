#!/usr/bin/env bash
# The parts around the binary, each by the program that will read it: compose stack, Prometheus, dashboards, Airflow, Superset,
# and the clients of `chpipe serve`.
# CHPIPE_BIN names the binary (default: target/debug/chpipe); CHPIPE_TEST_SKIPS a file for what this machine cannot run.
# test-production.sh [PART...]: compose metrics serve airflow superset; all where none is named. Airflow takes longest and mostly waits
# for its own start, so beside other parts it runs in the background.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$#" -gt 0 ] || set -- compose metrics serve airflow superset
CHPIPE_BIN=${CHPIPE_BIN:-$PWD/target/debug/chpipe}
export CHPIPE_BIN
debian=$PWD/.cache/debian
work=$(mktemp -d)
beside=
# What runs beside ends first, with all that it started: nothing writes into the folder while it is removed.
cleanup() {
    if [ -n "$beside" ] && kill -- "-$beside" 2> /dev/null; then
        wait "$beside" || true
    fi
    rm -rf "$work" 2> /dev/null || { sleep 3 && rm -rf "$work"; } || true
}
trap cleanup EXIT

skip() { echo "skipped: $1" | tee -a "${CHPIPE_TEST_SKIPS:-/dev/null}"; }

compose() {
    local tools
    tools=$(scripts/python-env.sh tools)
    "$tools/bin/python" tests/production/check_compose.py
    # podman-compose resolves includes, anchors and variables as an engine would, but insists on a podman to ask for its version.
    printf '#!/bin/sh\necho podman version 5.4.0\n' > "$work/podman"
    chmod +x "$work/podman"
    "$tools/bin/podman-compose" --podman-path "$work/podman" --env-file docker/dev.env -f compose.yaml config > "$work/compose.yml"
    grep -q 'airflow-dev-only@postgres' "$work/compose.yml"
    ! "$tools/bin/podman-compose" --podman-path "$work/podman" --env-file .env.example -f docker/compose.yml config > "$work/empty.log" 2>&1
    grep -q 'set CLICKHOUSE_PASSWORD in .env' "$work/empty.log"
    echo 'compose.yaml resolves with docker/dev.env, and refuses an empty .env'
}

metrics() {
    local tools
    tools=$(scripts/python-env.sh tools)
    "$tools/bin/python" docker/grafana/dashboards.py --check
    scripts/fetch-debian.sh prometheus prometheus-alertmanager prometheus-pushgateway
    if [ ! -x "$debian/usr/bin/promtool" ] || [ ! -x "$debian/usr/bin/prometheus-pushgateway" ]; then
        skip 'Prometheus: no promtool or Pushgateway'
        return
    fi
    PATH=$debian/usr/bin:$PATH
    promtool check config docker/prometheus/prometheus.yml
    promtool check rules docker/prometheus/rules/*.yml
    promtool test rules docker/prometheus/tests/*.yml
    # Debian's amtool is older than url_file; the address is all that is replaced.
    sed 's#url_file: .*#url: http://127.0.0.1:1/#' docker/alertmanager/alertmanager.yml > "$work/alertmanager.yml"
    amtool check-config "$work/alertmanager.yml"
    "$tools/bin/python" tests/production/check_metrics.py "$debian/usr/bin/promtool"
    tests/production/scrape.sh "$work"
}

serve() { tests/production/serve.sh "$work"; }

airflow() { tests/production/airflow.sh "$work/airflow"; }

superset() { tests/production/superset.sh "$work"; }

if [[ $# -gt 1 && " $* " == *' airflow '* ]]; then
    setsid tests/production/airflow.sh "$work/airflow" > "$work/airflow.out" 2>&1 &
    beside=$!
fi
for part in "$@"; do
    [ -z "$beside" ] || [ "$part" != airflow ] || continue
    printf '\n== %s (%ss)\n' "$part" "$SECONDS"
    "$part"
done
if [ -n "$beside" ]; then
    failed=
    wait "$beside" || failed=1
    beside=
    printf '\n== airflow (%ss)\n' "$SECONDS"
    cat "$work/airflow.out"
    [ -z "$failed" ] || exit 1
fi
