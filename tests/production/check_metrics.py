#!/usr/bin/env python3
"""Dashboards and rules use only metrics and labels of docs/metrics.md, and every panel's PromQL parses.

usage: check_metrics.py PROMTOOL
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Every scraped series has these; le, and the suffixes, belong to histograms.
SCRAPED = {"job", "instance"}
SUFFIXES = ("_bucket", "_sum", "_count")
WORDS = set(
    "sum min max avg count topk bottomk quantile stddev by without on ignoring group_left group_right and or unless offset bool inf nan".split()
)
SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def documented() -> dict[str, set[str]]:
    """Metric name to labels, from the tables of docs/metrics.md."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "docs/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 4 or not cells[0].startswith("`"):
            continue
        name, kind, labels = cells[0].strip("`"), cells[1], {label.strip() for label in cells[2].split(",") if label.strip()}
        found[name] = labels | SCRAPED
        if kind == "histogram":
            for suffix in SUFFIXES:
                found[name + suffix] = found[name] | ({"le"} if suffix == "_bucket" else set())
    return found


def queries() -> dict[str, str]:
    """Every expression with the place it stands in."""
    found = {}
    for path in sorted((ROOT / "docker/grafana/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)), f"{path.name}: panel ids repeat"
        assert board["uid"] == path.stem, f"{path.name}: its uid is {board['uid']}"
        for panel in board["panels"]:
            assert panel["targets"], f"{path.name}: {panel['title']} shows nothing"
            for target in panel["targets"]:
                assert target["datasource"]["uid"] == "prometheus", f"{path.name}: {panel['title']}: unknown data source"
                found[f"{path.name}: {panel['title']} {target['refId']}"] = target["expr"]
    for path in sorted((ROOT / "docker/prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                found[f"{path.name}: {rule.get('alert') or rule['record']}"] = rule["expr"]
    return found


def problems(expression: str, known: dict[str, set[str]]) -> list[str]:
    """Unknown metrics, and labels their metrics do not have."""
    found = []
    for name, matchers in SELECTOR.findall(expression):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)):
            if label not in known.get(name, {label}):
                found.append(f"{name} has no label {label}")
    bare = re.sub(r'"[^"]*"', '""', expression)
    labels = {label.strip() for group in GROUPING.findall(bare) for label in group.split(",") if label.strip()}
    bare = GROUPING.sub(" ", bare)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    used = {
        name
        for name in re.findall(r"[A-Za-z_:][\w:]*(?!\s*\()\b(?!\s*\()", bare)
        if name not in WORDS and not re.match(r"^\d", name)
    }
    for name in used:
        if name not in known:
            found.append(f"{name} is not in docs/metrics.md")
    usable = set().union(*(known.get(name, set()) for name in used)) if used else set()
    found += [f"no metric of it has the label {label}" for label in sorted(labels - usable)]
    return found


def main() -> int:
    promtool = sys.argv[1]
    known = documented()
    recorded = {
        rule["record"]: rule["expr"]
        for path in sorted((ROOT / "docker/prometheus/rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    for name, expression in recorded.items():
        known.setdefault(name, set().union(*(labels for metric, labels in known.items() if metric in expression)))
    known["ALERTS"] = {"alertstate", "alertname"}
    failed = []
    expressions = queries()
    for place, expression in expressions.items():
        failed += [f"{place}: {problem}" for problem in problems(expression, known)]
    # promtool parses rule files only, so every panel becomes a rule.
    rules = [{"record": f"panel:number_{at}", "expr": expression} for at, expression in enumerate(expressions.values())]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, file)
        file.flush()
        parsed = subprocess.run([promtool, "check", "rules", file.name], capture_output=True, text=True)
    if parsed.returncode:
        failed.append(parsed.stdout + parsed.stderr)
    for name in ("airflow_dag_status", "airflow_task_duration_seconds", "minio_s3_requests_total", "clickhouse_query_duration_seconds", "api_rate_limit_remaining"):
        if not any(name in expression for expression in expressions.values()):
            failed.append(f"no dashboard shows {name}")
    for problem in failed:
        print(problem, file=sys.stderr)
    print(f"{len(expressions)} expressions of dashboards and rules, {len(known)} known metrics, {len(failed)} problems")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
