#!/usr/bin/env bash
# gold.sh CHPIPE NAME...: runs the named queries of docs/gold_queries.sql (`-- name: …`) and prints their tables.
set -euo pipefail
cd "$(dirname "$0")/.."
chpipe=$1
shift
for name in "$@"; do
    sql=$(awk -v name="$name" '/^-- name: /{on = ($3 == name); next} on' docs/gold_queries.sql)
    [ -n "$sql" ] || { echo "docs/gold_queries.sql has no query named $name" >&2; exit 2; }
    printf '\n%s\n' "$(printf '%s\n' "$sql" | sed -n 's/^-- title: //p')"
    grep -v '^--' <<< "${sql%;*}" | "$chpipe" query --format PrettyCompactMonoBlock -
done
