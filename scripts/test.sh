#!/usr/bin/env bash
# Installs what the tests need (without root) and runs every check and test. What this machine cannot provide is skipped
# by name and counted at the end; with CI=true a skip is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step 'format'
$CARGO fmt --check

step 'lints'
$CARGO clippy --all-targets --quiet -- -D warnings

step 'build'
$CARGO build --tests --bins --quiet
CHPIPE_BIN=$PWD/target/debug/chpipe
export CHPIPE_BIN

step 'libchdb'
"$CHPIPE_BIN" engine install

step 'services from Debian'
scripts/fetch-debian.sh

step 'tests'
CHPIPE_TEST_SKIPS=$(mktemp)
export CHPIPE_TEST_SKIPS INSTA_UPDATE=no
trap 'rm -f "$CHPIPE_TEST_SKIPS"' EXIT
$CARGO test --quiet

step 'side by side with dbt'
dbt=$(scripts/python-env.sh dbt)
"$dbt/bin/python" tests/dbt/side_by_side.py

step 'Parquet of other writers'
parquet=$(scripts/python-env.sh parquet)
"$parquet/bin/python" tests/parquet/foreign_files.py

step 'what stands around the binary'
scripts/test-production.sh

step 'done'
skipped=$(sort -u "$CHPIPE_TEST_SKIPS" | grep -c . || true)
if [ "$skipped" -gt 0 ]; then
    sort -u "$CHPIPE_TEST_SKIPS"
    echo "$skipped skipped on this machine"
    [ "${CI:-}" != true ] || exit 1
else
    echo 'nothing was skipped'
fi
