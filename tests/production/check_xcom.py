#!/usr/bin/env python3
"""What the operator pushed to XCom of a DAG's newest run: status, rows and seconds by node, as in run_results.json.

usage: check_xcom.py DAG_ID (AIRFLOW_HOME names the metadata database's folder)
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys

# Nodes whose numbers must be there, by the task that runs them.
WANTED = {"run_gold": "model.f1.fact_race_results", "snapshot": "snapshot.f1.snap_drivers", "test": "test.f1.fact_rows_equal_staging"}


def main() -> int:
    database = sqlite3.connect(f"file:{os.environ['AIRFLOW_HOME']}/airflow.db?mode=ro", uri=True)
    for task, node in WANTED.items():
        query = """select value from xcom where dag_id = ? and task_id = ? and key = 'return_value'
            order by dag_run_id desc limit 1"""
        row = database.execute(query, (sys.argv[1], task)).fetchone()
        assert row, f"{task} pushed nothing"
        value = row[0]
        # Airflow keeps JSON, once or twice encoded.
        while isinstance(value, (str, bytes)):
            value = json.loads(value)
        assert value["status"].get(node) in ("success", "pass"), f"{task}: status of {node}: {value['status'].get(node)}"
        assert value["seconds"][node] > 0, f"{task}: {node} took no time"
        if task == "run_gold":
            assert value["rows"], f"{task}: no rows of any node"
    print("XCom: status, rows and seconds by node")
    return 0


if __name__ == "__main__":
    sys.exit(main())
