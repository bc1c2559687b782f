"""The names that moved between Airflow 2.10 and 3, each imported from where it stands without a deprecation warning."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

try:  # Airflow 3
    from airflow.sdk import DAG, BaseOperator, DeadlineAlert, DeadlineReference, Param, TaskGroup, task
    from airflow.sdk.definitions.callback import AsyncCallback
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    AIRFLOW_3 = True
except ImportError:  # Airflow 2.10
    from airflow import DAG
    from airflow.decorators import task
    from airflow.exceptions import AirflowException, AirflowFailException
    from airflow.models.baseoperator import BaseOperator
    from airflow.models.param import Param
    from airflow.utils.task_group import TaskGroup

    AIRFLOW_3 = False

__all__ = [
    "AIRFLOW_3",
    "DAG",
    "AirflowException",
    "AirflowFailException",
    "BaseOperator",
    "Param",
    "TaskGroup",
    "deadline",
    "sla",
    "task",
]


def deadline(interval: timedelta) -> dict[str, Any]:
    """Arguments of a DAG whose runs should end within ``interval``, on Airflow 3; nothing on 2.10, which has :func:`sla`.

    What is missed is counted as ``deadline_alerts.deadline_missed`` (Prometheus alert DeadlineMissed) and logged.
    """
    # `airflow dags test` of 3.3.2 fails after the last task of a DAG with a deadline: it knows its alerts' ids in the database only.
    if not AIRFLOW_3 or os.environ.get("CHPIPE_DEADLINES") == "off":
        return {}
    alert = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        callback=AsyncCallback("chpipe_airflow.deadline.report", {"interval": str(interval)}),
    )
    return {"deadline": alert}


def sla(interval: timedelta) -> dict[str, Any]:
    """Arguments of a DAG's last task, with the same meaning on Airflow 2.10; nothing on 3."""
    return {} if AIRFLOW_3 else {"sla": interval}
