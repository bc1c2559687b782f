"""What the two F1 DAGs share."""

from __future__ import annotations

import os
from datetime import timedelta

from chpipe_airflow.operator import ChpipeOperator

PROJECT_DIR = os.environ.get("CHPIPE_PROJECT_DIR", os.getcwd())
# Tasks that ask the API wait for a slot, so that the quota is not spent on two seasons at once. chpipe itself keeps the
# limit over all processes of a machine; the pool keeps it over all workers. `default_pool` where it was not made.
API_POOL = os.environ.get("CHPIPE_API_POOL", "ergast_api")

# One batch id per DAG run, whatever is cleared and rerun: the logical date, or, for a run without one, when it was queued.
BATCH_ID = "{{ (logical_date or dag_run.run_after).strftime('%Y%m%dT%H%M%S') }}"

DEFAULT_ARGS = {
    "owner": "f1",
    "retries": int(os.environ.get("CHPIPE_TASK_RETRIES", "4")),
    "retry_delay": timedelta(seconds=float(os.environ.get("CHPIPE_TASK_RETRY_SECONDS", "30"))),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(hours=1),
}

STAGING = ["--select", "staging"]
REST = ["--exclude", "staging"]


def chpipe(task_id: str, command: str, *arguments: str, api: bool = False, **kwargs) -> ChpipeOperator:
    """A task that runs one command in the F1 project."""
    if api:
        kwargs["pool"] = API_POOL
    return ChpipeOperator(
        task_id=task_id, command=command, arguments=list(arguments), project_dir=PROJECT_DIR, **kwargs
    )


def warehouse_tasks() -> list[ChpipeOperator]:
    """From Silver to tested gold tables, in order: DDL, load, staging, snapshots, the rest, tests."""
    return [
        chpipe("migrate", "migrate"),
        chpipe("load", "load"),
        chpipe("run_staging", "run", *STAGING),
        chpipe("snapshot", "snapshot"),
        chpipe("run_gold", "run", *REST),
        chpipe("test", "test"),
    ]
