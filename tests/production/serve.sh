#!/usr/bin/env bash
# serve.sh WORK: `chpipe serve` against the programs people use it with: curl, clickhouse-connect, dbt-clickhouse.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
venv=$(scripts/python-env.sh dbt)
fail() { echo "serve: $*" >&2; exit 1; }

project=$work/served
mkdir -p "$project/models" "$project/seeds"
export CHPIPE_SERVE_USER=someone CHPIPE_SERVE_PASSWORD='of the test & ü'
"$CHPIPE_BIN" --project-dir "$project" serve --port 0 --s3-port 0 > "$work/serve_clients.log" 2>&1 &
served=$!
# Waits, so that nothing writes into the folder while it is removed.
trap 'kill "$served" 2> /dev/null && wait "$served" || true' EXIT
port=
for _ in $(seq 600); do
    port=$(sed -n 's#.*http://127.0.0.1:\([0-9]*\)/.*#\1#p' "$work/serve_clients.log" | head -n 1)
    [ -z "$port" ] || break
    kill -0 "$served" 2> /dev/null || break
    sleep 0.1
done
[ -n "$port" ] || { cat "$work/serve_clients.log" >&2; exit 1; }
url=http://127.0.0.1:$port

# curl: the statement in the URL or the body, the data in the body, formats, headers, status and exception codes.
ask() { curl --silent --max-time 120 --user "$CHPIPE_SERVE_USER:$CHPIPE_SERVE_PASSWORD" "$@"; }
same() { [ "$1" = "$2" ] || fail "got $(printf '%q' "$1"), not $(printf '%q' "$2")"; }
same "$(curl --silent "$url/ping")" 'Ok.'
same "$(ask "$url/?query=SELECT+1")" 1
same "$(ask "$url/?default_format=JSONEachRow&param_a=5" --data-binary 'SELECT {a:UInt8} AS a')" '{"a":5}'
ask "$url/" --data-binary 'CREATE DATABASE by_curl ENGINE = Atomic'
ask "$url/?database=by_curl" --data-binary 'CREATE TABLE t (a Int64, b String) ENGINE = MergeTree ORDER BY a'
printf '1,"it'"'"'s"\n2,"a\n\nb"\n' | ask "$url/?database=by_curl&query=INSERT+INTO+t+FORMAT+CSV" --data-binary @-
seq 3 1000 | sed 's/$/,x/' | gzip | ask -H 'Content-Encoding: gzip' "$url/?database=by_curl&query=INSERT+INTO+t+FORMAT+CSV" --data-binary @-
same "$(ask "$url/?database=by_curl&query=SELECT+sum(a),count()+FROM+t")" "$(printf '500500\t1000')"
same "$(ask --compressed "$url/?enable_http_compression=1&database=by_curl" --data-binary 'SELECT b FROM t WHERE a = 1')" "it\\'s"
same "$(ask --output /dev/null --write-out '%{http_code} %header{x-clickhouse-exception-code}' "$url/?query=SELECT+nope")" '404 47'
same "$(curl --silent --output /dev/null --write-out '%{http_code}' "$url/?query=SELECT+1")" 403
same "$(curl --silent -H "X-ClickHouse-User: $CHPIPE_SERVE_USER" -H "X-ClickHouse-Key: wrong" --output /dev/null --write-out '%header{x-clickhouse-exception-code}' "$url/?query=SELECT+1")" 516
echo 'curl: statements, data, parameters, gzip, codes'

"$venv/bin/python" tests/production/serve_clients.py "$port" "$CHPIPE_SERVE_USER" "$CHPIPE_SERVE_PASSWORD"

# dbt-clickhouse: connects, builds a seed, a view, a table and an incremental model, and tests them; twice.
cat > "$project/dbt_project.yml" <<'YAML'
name: served
version: 1.0.0
profile: served
flags: {send_anonymous_usage_stats: false}
YAML
cat > "$project/profiles.yml" <<YAML
served:
  target: server
  outputs:
    server: {type: clickhouse, driver: http, host: 127.0.0.1, port: $port, user: "{{ env_var('CHPIPE_SERVE_USER') }}",
             password: "{{ env_var('CHPIPE_SERVE_PASSWORD') }}", schema: served, threads: 2}
YAML
printf 'id,name\n1,a\n2,b\n' > "$project/seeds/names.csv"
echo "select id, name from {{ ref('names') }}" > "$project/models/first.sql"
echo "{{ config(materialized='table', order_by='id') }} select id, upper(name) as name from {{ ref('first') }}" > "$project/models/second.sql"
cat > "$project/models/third.sql" <<'SQL'
{{ config(materialized='incremental', unique_key='id', order_by='id') }}
select id, name, now64() as at from {{ ref('second') }}
SQL
printf 'models: [{name: third, columns: [{name: id, data_tests: [unique, not_null]}]}]\n' > "$project/models/models.yml"
dbt() {
    (cd "$project" && DBT_LOG_PATH=$work/dbt-logs DBT_TARGET_PATH=$work/dbt-target "$venv/bin/dbt" "$@" --profiles-dir .) > "$work/dbt.log" 2>&1 \
        || { tail -n 40 "$work/dbt.log" >&2; fail "dbt $* failed"; }
}
dbt debug
dbt build
dbt build
same "$(ask "$url/?query=SELECT+count(),max(name)+FROM+served.third")" "$(printf '2\tB')"
# The same project by chpipe, over HTTP.
DBT_TARGET_PATH=$work/chpipe-target "$CHPIPE_BIN" --project-dir "$project" --profiles-dir "$project" --quiet build
same "$(ask "$url/?query=SELECT+count(),max(name)+FROM+served.third")" "$(printf '2\tB')"
echo 'dbt-clickhouse: debug, build twice; chpipe build over HTTP'

kill "$served"
wait "$served" || fail "serve ended with $? at SIGTERM"
trap - EXIT
