#!/usr/bin/env bash
# pipeline.sh PROJECT: a copy of the project in that folder, with three simulated seasons built in its embedded warehouse.
# Sourced, so that the caller's commands work on it; does nothing but set variables where the warehouse is there.
project=$1
export CHPIPE_LAKE_PATH=$project/.chpipe/lake CHPIPE_WAREHOUSE_PATH=$project/.chpipe/warehouse CHPIPE_STATE_PATH=$project/.chpipe/state
export CHPIPE_REQUESTS_PER_SECOND=2000 CHPIPE_REQUESTS_PER_HOUR=10000000
if [ ! -d "$project" ]; then
    mkdir -p "$project/tests"
    cp -r dbt_project.yml profiles.yml chpipe.toml models snapshots macros seeds ddl "$project/"
    cp -r tests/f1 "$project/tests/"
    printf '{%% macro noted() %%}{%% do run_query("select 1") %%}{%% endmacro %%}\n' > "$project/macros/noted.sql"
fi
if [ ! -d "$CHPIPE_WAREHOUSE_PATH" ]; then
    rm -f "$project/url"
    "$CHPIPE_BIN" simulate --port 0 --seasons 2021..2024 --lap-scale 0.1 --no-throttle --quiet --url-file "$project/url" &
    api=$!
    for _ in $(seq 600); do [ -s "$project/url" ] && break; sleep 0.1; done
    for step in 'extract --season 2022..2023' transform migrate load 'backfill --season 2024' build; do
        # shellcheck disable=SC2086
        CHPIPE_SOURCE_URL=$(cat "$project/url") "$CHPIPE_BIN" --project-dir "$project" --target dev --quiet $step || { kill "$api"; echo "chpipe $step failed" >&2; exit 1; }
    done
    kill "$api"
    wait "$api" || true
fi
