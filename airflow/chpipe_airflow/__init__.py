"""Runs chpipe from Airflow: an operator, and a task group with one task per model."""

from chpipe_airflow.operator import ChpipeOperator
from chpipe_airflow.task_group import chpipe_task_group

__all__ = ["ChpipeOperator", "chpipe_task_group"]
