#!/usr/bin/env python3
"""Every sample of `chpipe metrics` is in docs/metrics.md, with the labels that stand there. usage: check_samples.py FILE"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from check_metrics import documented  # noqa: E402

# What a warehouse with one run of everything must show.
ALWAYS = """chpipe_info chpipe_warehouse_read_timestamp_seconds chpipe_runs_total chpipe_last_run_timestamp_seconds api_rate_limit_remaining chpipe_migrations chpipe_rows_total
chpipe_bytes_total chpipe_pages_total chpipe_api_requests_total chpipe_batches chpipe_layer_bytes chpipe_node_status chpipe_test_failures
chpipe_snapshot_changes_total chpipe_table_rows chpipe_table_last_loaded_timestamp_seconds chpipe_round_rows chpipe_rounds_missing
chpipe_schema_drift_fields chpipe_api_request_duration_seconds_bucket chpipe_quarantined_rows_total clickhouse_query_duration_seconds_bucket""".split()


def main() -> int:
    known = documented()
    failed, seen, series = [], set(), set()
    for line in Path(sys.argv[1]).read_text().splitlines():
        if line.startswith("#"):
            continue
        if (one := line.rsplit(" ", 1)[0]) in series:
            failed.append(f"{one} is there twice")
        series.add(one)
        name, labels = re.match(r"([\w:]+)(?:\{(.*)\})? ", line).groups()
        seen.add(name)
        for label in re.findall(r'(\w+)="', labels or ""):
            if name not in known or label not in known[name]:
                failed.append(f"{name} with label {label} is not in docs/metrics.md")
        if name not in known:
            failed.append(f"{name} is not in docs/metrics.md")
    failed += [f"{name} is missing" for name in ALWAYS if name not in seen]
    for problem in sorted(set(failed)):
        print(problem, file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
