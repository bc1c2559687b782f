"""What the two F1 DAGs share."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from chpipe_airflow.compat import sla
from chpipe_airflow.operator import ChpipeOperator

PROJECT_DIR = os.environ.get("CHPIPE_PROJECT_DIR", os.getcwd())
# Tasks that ask the API wait for a slot, so that the quota is not spent on two seasons at once. chpipe itself keeps the
# limit over all processes of a machine; the pool keeps it over all workers. `default_pool` where none was made.
API_POOL = os.environ.get("CHPIPE_API_POOL", "default_pool")

# One batch id per DAG run, whatever is cleared and rerun: the logical date, or, for a run without one, when it was due.
BATCH_ID = "{{ (dag_run.logical_date or dag_run.run_after).strftime('%Y%m%dT%H%M%S') }}"

DEFAULT_ARGS = {
    "owner": "f1",
    "retries": int(os.environ.get("CHPIPE_TASK_RETRIES", "4")),
    "retry_delay": timedelta(seconds=float(os.environ.get("CHPIPE_TASK_RETRY_SECONDS", "30"))),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(hours=1),
}


def chpipe(task_id: str, command: str, **kwargs: Any) -> ChpipeOperator:
    """A task that runs one command in the F1 project."""
    return ChpipeOperator(task_id=task_id, command=command, project_dir=PROJECT_DIR, **kwargs)


def extract(task_id: str, level: str, **kwargs: Any) -> ChpipeOperator:
    """A task that asks the API."""
    return chpipe(task_id, "extract", level=level, batch_id=BATCH_ID, pool=API_POOL, **kwargs)


def warehouse_tasks(within: timedelta) -> list[ChpipeOperator]:
    """From Bronze to tested gold tables, in order: Silver, DDL, load, reference data, staging, snapshots, the rest, tests.

    :param within: how long after its start the DAG run should be done.
    """
    return [
        chpipe("transform", "transform"),
        chpipe("migrate", "migrate"),
        chpipe("load", "load"),
        chpipe("seed", "seed"),
        chpipe("run_staging", "run", select="staging"),
        chpipe("snapshot", "snapshot"),
        chpipe("run_gold", "run", exclude="staging"),
        chpipe("test", "test", **sla(within)),
    ]


def in_order(tasks: list[Any]) -> None:
    """Each task after the one before it."""
    for before, after in zip(tasks, tasks[1:]):
        before >> after
