#!/usr/bin/env bash
# Measures chpipe against peers and baselines in the same run: `scripts/bench.sh [name…]`, all of bench/*.py without a name.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
STATE=${BENCH_STATE:-$PWD/.chpipe/bench}
mkdir -p "$STATE"
$CARGO build --release --quiet
CHPIPE=$PWD/target/release/chpipe
"$CHPIPE" engine install
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(transform gold dbt_project build snapshot)
for name in "${wanted[@]}"; do
    printf '\n== %s\n' "$name"
    python3 "bench/$name.py" "$CHPIPE" "$STATE/$name"
done
