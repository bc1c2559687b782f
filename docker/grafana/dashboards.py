#!/usr/bin/env python3
"""Writes the Grafana dashboards: `dashboards.py` into dashboards/, `dashboards.py --check` fails where a file there differs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH = 24


def target(expr: str, legend: str = "", **more) -> dict:
    return {"datasource": SOURCE, "expr": expr, "legendFormat": legend, **more}


def panel(title: str, kind: str, targets, *, width=12, height=8, unit="short", about="", thresholds=None, **more) -> dict:
    """One panel; ``targets`` is an expression, or (expression, legend) pairs."""
    if isinstance(targets, str):
        targets = [(targets, "")]
    steps = [{"color": color, "value": value} for color, value in thresholds or [("green", None)]]
    options = more.pop("options", {})
    custom = more.pop("custom", {})
    instant = kind in {"table", "stat", "gauge", "bargauge"}
    return {
        "title": title,
        "description": about,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": [
            target(expr, legend, refId=chr(65 + at), **({"instant": True, "format": "table" if kind == "table" else "time_series"} if instant else {}), **more)
            for at, (expr, legend) in enumerate(targets)
        ],
        "fieldConfig": {"defaults": {"unit": unit, "custom": custom, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "options": options,
    }


def stat(title: str, expr: str, **more) -> dict:
    more.setdefault("width", 4)
    more.setdefault("height", 4)
    return panel(title, "stat", expr, options={"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}, **more)


def lines(title: str, targets, **more) -> dict:
    return panel(title, "timeseries", targets, custom={"fillOpacity": 10, "showPoints": "never"}, **more)


def stacked(title: str, targets, **more) -> dict:
    return panel(title, "timeseries", targets, custom={"fillOpacity": 40, "showPoints": "never", "stacking": {"mode": "normal"}}, **more)


def bars(title: str, targets, **more) -> dict:
    return panel(title, "timeseries", targets, custom={"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal"}}, **more)


def heatmap(title: str, expr: str, **more) -> dict:
    options = {"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Oranges", "mode": "scheme"}, "cellGap": 1}
    return panel(title, "heatmap", [(expr, "{{le}}")], options=options, format="heatmap", **more)


def table(title: str, expr: str, **more) -> dict:
    return panel(title, "table", expr, **more)


BAD = [("green", None), ("red", 1)]
QUOTA = [("red", None), ("orange", 25), ("green", 100)]
DAY = [("green", None), ("orange", 10 * 86400), ("red", 15 * 86400)]

DASHBOARDS = {
    "pipeline_health": (
        "Pipeline health",
        "now-7d",
        [
            stat("Failed DAG runs, 24 h", 'sum(airflow_dag_status{status="failed"} - (airflow_dag_status{status="failed"} offset 1d or airflow_dag_status{status="failed"} * 0)) or vector(0)', thresholds=BAD),
            stat("DAG success rate, 7 d", 'sum(increase(airflow_dag_status{status="success"}[7d])) / sum(increase(airflow_dag_status[7d]))', unit="percentunit", thresholds=[("red", None), ("orange", 0.9), ("green", 0.99)]),
            stat("Deadlines missed, 7 d", "sum(increase(airflow_deadline_missed_total[7d])) or vector(0)", thresholds=BAD),
            stat("Failing data tests", 'count(chpipe_test_failures{severity="error"} > 0) or vector(0)', thresholds=BAD),
            stat("Nodes not ok", 'count(chpipe_node_status{status=~"error|fail|skipped"} == 1) or vector(0)', thresholds=BAD),
            stat("API requests left", "min(api_rate_limit_remaining)", thresholds=QUOTA),
            table("Firing alerts", 'ALERTS{alertstate="firing"}', width=12),
            table("Last run by command", "time() - max by (command, outcome) (chpipe_last_run_timestamp_seconds)", unit="s", width=12),
            bars("DAG runs by outcome", [("sum by (dag_id, status) (increase(airflow_dag_status[1h]))", "{{dag_id}} {{status}}")]),
            lines("Task duration, p95", [("histogram_quantile(0.95, sum by (dag_id, task_id, le) (increase(airflow_task_duration_seconds_bucket[1d])))", "{{dag_id}} {{task_id}}")], unit="s"),
            lines("Schedule delay, p95", [("histogram_quantile(0.95, sum by (dag_id, le) (increase(airflow_dagrun_schedule_delay_seconds_bucket[1d])))", "{{dag_id}}")], unit="s"),
            bars("Tasks by final state", [("sum by (state) (increase(airflow_task_finished_total[1h]))", "{{state}}")]),
            bars("chpipe runs by outcome", [("sum by (command, outcome) (increase(chpipe_runs_total[1h]))", "{{command}} {{outcome}}")]),
            table("Migrations", "max by (state) (chpipe_migrations)", width=6),
            lines("Slots of the API pool", [("min by (pool_name) (airflow_pool_open_slots)", "{{pool_name}} free"), ("max by (pool_name) (airflow_pool_queued_slots)", "{{pool_name}} waiting")], width=6),
            table("Services", "up", width=12),
            table("Version", "chpipe_info", width=12),
        ],
    ),
    "throughput": (
        "Throughput",
        "now-30d",
        [
            stat("Rows loaded, 24 h", 'sum(increase(chpipe_rows_total{layer="raw"}[1d]))'),
            stat("Bytes to Bronze, 24 h", 'sum(increase(chpipe_bytes_total{layer="bronze"}[1d]))', unit="bytes"),
            stat("Pages, 24 h", "sum(increase(chpipe_pages_total[1d]))"),
            stat("API requests, 24 h", "sum(increase(chpipe_api_requests_total[1d]))"),
            stat("Batches complete", 'sum(chpipe_batches{state="complete"})'),
            stat("Batches pending", 'sum(chpipe_batches{state=~"pending|incomplete"})', thresholds=[("green", None), ("orange", 1)]),
            bars("Rows by layer", [("sum by (layer) (increase(chpipe_rows_total[1h]))", "{{layer}}")]),
            bars("Bytes by layer", [("sum by (layer) (increase(chpipe_bytes_total[1h]))", "{{layer}}")], unit="bytes"),
            bars("Rows loaded by endpoint", [('sum by (endpoint) (increase(chpipe_rows_total{layer="raw"}[1h]))', "{{endpoint}}")]),
            bars("Pages by endpoint", [("sum by (endpoint) (increase(chpipe_pages_total[1h]))", "{{endpoint}}")]),
            bars("API requests by outcome", [("sum by (outcome) (increase(chpipe_api_requests_total[1h]))", "{{outcome}}")]),
            lines("Seconds per API request", [("sum by (endpoint) (increase(chpipe_api_seconds_total[1d])) / (sum by (endpoint) (increase(chpipe_api_requests_total[1d])) > 0)", "{{endpoint}}")], unit="s", about="Waiting for the quota included."),
            lines("API request latency", [(f"histogram_quantile({q}, sum by (le) (increase(chpipe_api_request_duration_seconds_bucket[1d])))", f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)], unit="s", about="Without waiting for the quota."),
            lines("API request latency by endpoint and outcome, p95", [("histogram_quantile(0.95, sum by (le, endpoint, outcome) (increase(chpipe_api_request_duration_seconds_bucket[1d])))", "{{endpoint}} {{outcome}}")], unit="s"),
            lines("API quota left", [("min(api_rate_limit_remaining)", "requests")]),
            bars("S3 requests", [("sum by (api) (rate(minio_s3_requests_total[5m]))", "{{api}}")], unit="reqps"),
            lines("S3 traffic", [("sum(rate(minio_s3_traffic_received_bytes[5m]))", "written"), ("sum(rate(minio_s3_traffic_sent_bytes[5m]))", "read")], unit="Bps"),
            bars("Snapshot changes", [("sum by (snapshot, change) (increase(chpipe_snapshot_changes_total[1d]))", "{{snapshot}} {{change}}")]),
        ],
    ),
    "query_performance": (
        "Query performance",
        "now-7d",
        [
            heatmap("Query latency", "sum by (le) (increase(clickhouse_query_duration_seconds_bucket[1h]))", width=24, height=9),
            lines("Latency of all nodes", [(f"histogram_quantile({q}, sum by (le) (increase(clickhouse_query_duration_seconds_bucket[1d])))", f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)], unit="s"),
            lines("Slowest nodes, p95", [("topk(10, chpipe:clickhouse_query_duration_seconds:p95)", "{{node}}")], unit="s"),
            lines("Mean duration by command", [("sum by (command) (increase(clickhouse_query_duration_seconds_sum[1d])) / (sum by (command) (increase(clickhouse_query_duration_seconds_count[1d])) > 0)", "{{command}}")], unit="s"),
            lines("Duration of the last run", [("max by (command) (chpipe_last_run_duration_seconds)", "{{command}}")], unit="s"),
            lines("Queries under way", [("max(ClickHouseMetrics_Query)", "queries")]),
            lines("Server memory", [("max(ClickHouseMetrics_MemoryTracking)", "allocated")], unit="bytes"),
            lines("Rows inserted and read a second", [("sum(rate(ClickHouseProfileEvents_InsertedRows[5m]))", "inserted"), ("sum(rate(ClickHouseProfileEvents_SelectedRows[5m]))", "read")]),
            bars("Failed queries", [("sum(increase(ClickHouseProfileEvents_FailedQuery[1h]))", "failed")]),
        ],
    ),
    "storage": (
        "Storage",
        "now-90d",
        [
            *(stat(layer.capitalize(), f'max(chpipe_layer_bytes{{layer="{layer}"}})', unit="bytes") for layer in ("bronze", "silver", "raw", "gold", "snapshots")),
            stat("Free in the lake", "min(minio_cluster_capacity_usable_free_bytes / minio_cluster_capacity_usable_total_bytes)", unit="percentunit", thresholds=[("red", None), ("orange", 0.1), ("green", 0.25)]),
            stacked("Bytes by layer", [("max by (layer) (chpipe_layer_bytes)", "{{layer}}")], unit="bytes"),
            lines("Growth a day by layer", [("max by (layer) (delta(chpipe_layer_bytes[1d]))", "{{layer}}")], unit="bytes"),
            stacked("Bytes by bucket", [("max by (bucket) (minio_bucket_usage_total_bytes)", "{{bucket}}")], unit="bytes"),
            lines("Objects by bucket", [("max by (bucket) (minio_bucket_usage_object_total)", "{{bucket}}")]),
            stacked("Rows by table", [("max by (table) (chpipe_table_rows)", "{{table}}")]),
            lines("ClickHouse's disk", [("max(ClickHouseAsyncMetrics_DiskUsed_default)", "used")], unit="bytes"),
        ],
    ),
    "data_quality": (
        "Data quality",
        "now-30d",
        [
            stat("Failing data tests", 'count(chpipe_test_failures{severity="error"} > 0) or vector(0)', thresholds=BAD),
            stat("Warning data tests", 'count(chpipe_test_failures{severity="warn"} > 0) or vector(0)', thresholds=[("green", None), ("orange", 1)]),
            stat("Rounds missing", "sum(chpipe_rounds_missing) or vector(0)", thresholds=BAD),
            stat("Rows in quarantine", "sum(chpipe_quarantined_rows_total) or vector(0)", thresholds=[("green", None), ("orange", 1)]),
            stat("Unknown fields", "sum(chpipe_schema_drift_fields) or vector(0)", thresholds=[("green", None), ("orange", 1)]),
            stat("Oldest result", 'time() - max(chpipe_table_last_loaded_timestamp_seconds{table="raw_results"})', unit="s", thresholds=DAY),
            table("Freshness", "sort_desc(time() - max by (table) (chpipe_table_last_loaded_timestamp_seconds))", unit="s"),
            panel("Newest round against past seasons", "bargauge", [("chpipe:round_rows:ratio", "{{endpoint}} {{season}}/{{round}}")], unit="percentunit"),
            table("Rows of the newest round", "chpipe_round_rows"),
            table("Rows expected of it", "chpipe_round_rows_expected"),
            lines("Failing rows by test", [("max by (test) (chpipe_test_failures) > 0", "{{test}}")]),
            bars("Quarantined rows", [("sum by (endpoint) (increase(chpipe_quarantined_rows_total[1d]))", "{{endpoint}}")]),
            lines("Unknown fields by endpoint", [("max by (endpoint) (chpipe_schema_drift_fields)", "{{endpoint}}")]),
            table("Status of each node", "chpipe_node_status == 1"),
        ],
    ),
}


def place(panels: list[dict]) -> list[dict]:
    """Left to right, then the next row; ids in that order."""
    x = y = tallest = 0
    for number, entry in enumerate(panels, 1):
        position = entry["gridPos"]
        if x + position["w"] > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        position.update(x=x, y=y)
        x, tallest = x + position["w"], max(tallest, position["h"])
        entry["id"] = number
    return panels


def dashboard(uid: str) -> dict:
    title, since, panels = DASHBOARDS[uid]
    return {
        "uid": uid,
        "title": title,
        "tags": ["f1"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "timezone": "utc",
        "links": [{"type": "dashboards", "tags": ["f1"], "title": "F1 platform", "asDropdown": False}],
        "panels": place(panels),
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    differing = []
    for uid in DASHBOARDS:
        path = FOLDER / f"{uid}.json"
        text = json.dumps(dashboard(uid), indent=1, ensure_ascii=False) + "\n"
        if check:
            if not path.exists() or path.read_text() != text:
                differing.append(path.name)
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text)
    if differing:
        print(f"{', '.join(differing)}: run docker/grafana/dashboards.py", file=sys.stderr)
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
