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
[ ${#wanted[@]} -gt 0 ] || wanted=(transform gold dbt_project build snapshot plan)
missed=()
for name in "${wanted[@]}"; do
    printf '\n== %s\n' "$name"
    # A target that one misses does not keep the others from being measured.
    python3 "bench/$name.py" "$CHPIPE" "$STATE/$name" || missed+=("$name")
done
if [ ${#missed[@]} -gt 0 ]; then
    printf '\nNot met or failed: %s\n' "${missed[*]}" >&2
    exit 1
fi
