#!/usr/bin/env python3
"""Both F1 DAGs parse without a warning or an import error, on the Airflow of this interpreter, and have the order they should have."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

logging.disable(logging.WARNING)
from airflow import __version__  # noqa: E402

try:  # Airflow 3
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 2.10
    from airflow.models.dagbag import DagBag

ROOT = Path(__file__).resolve().parents[2]
ORDER = """extract_static extract_season extract_races extract_race_data extract_standings transform migrate load seed run_staging snapshot
run_gold test""".split()


def check(dag) -> None:
    """Every task of the order comes directly after the one before it."""
    for before, after in zip(ORDER, ORDER[1:]):
        assert after in dag.get_task(before).downstream_task_ids, f"{dag.dag_id}: {after} does not follow {before}"
    assert dag.max_active_runs == 1 and not dag.catchup
    is_timed = dag.deadline if hasattr(dag, "deadline") else dag.get_task("test").sla
    assert is_timed, f"{dag.dag_id} has neither a deadline nor an SLA"
    for task in dag.tasks:
        if task.task_id == "list_seasons":
            continue
        assert task.retries > 0 and task.retry_exponential_backoff, f"{dag.dag_id}: {task.task_id} is not retried"
        is_api = task.task_id.startswith("extract")
        assert (task.pool == "ergast_api") == is_api, f"{dag.dag_id}: {task.task_id} is in pool {task.pool}"
        if is_api:
            batch_id = task.partial_kwargs["batch_id"] if hasattr(task, "partial_kwargs") else task.batch_id
            assert "logical_date" in batch_id, f"{dag.dag_id}: {task.task_id} has a batch id of its own"


def main() -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bag = DagBag(str(ROOT / "airflow/dags"))
    ours = [warning for warning in caught if "airflow/dags" in warning.filename or "chpipe_airflow" in warning.filename]
    assert not bag.import_errors, bag.import_errors
    assert not ours, [str(warning.message) for warning in ours]
    assert sorted(bag.dags) == ["f1_backfill_pipeline", "f1_incremental"], sorted(bag.dags)
    for dag in bag.dags.values():
        check(dag)
    mapped = [task.task_id for task in bag.dags["f1_backfill_pipeline"].tasks if hasattr(task, "partial_kwargs")]
    assert mapped == ORDER[1:5], mapped
    print(f"Airflow {__version__}: both DAGs parse, without warnings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
