"""A query that runs for minutes, to be killed."""

from __future__ import annotations

from datetime import datetime

from chpipe_airflow.compat import DAG
from chpipe_airflow.f1 import PROJECT_DIR
from chpipe_airflow.operator import ChpipeOperator

SLOW = "select count() from numbers(10000000000000) where not ignore(cityHash64(number))"

with DAG(dag_id="kill_me", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    ChpipeOperator(task_id="slow", command="query", arguments=[SLOW], project_dir=PROJECT_DIR)
